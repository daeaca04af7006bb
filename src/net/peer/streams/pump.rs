//! The local socket of a stream, and what keeps a slow reader from filling our memory.

use std::io::{self, Read};

use super::{Partner, StreamError};
use crate::limits;
use crate::net::peer::local::LocalSocket;
use crate::net::peer::paths::Stage;
use crate::net::peer::{PeerHost, Sock};
use crate::net::reactor::{Core, Readiness};
use crate::net::socket::{self, Dialled};
use crate::wire::record::Record;

impl PeerHost {
    pub(in crate::net::peer) fn handle_local_ready(
        &mut self,
        core: &mut Core,
        key: usize,
        ready: Readiness,
    ) {
        let Some(Sock::Local(local)) = self.socks.get_mut(key) else { return };
        if local.connecting && !self.look_at_local(core, key) {
            return;
        }
        if ready.writable {
            self.flush_local(core, key);
        }
        if ready.readable {
            self.read_local(core, key);
        }
    }

    /// Whether the service is connected by now.
    fn look_at_local(&mut self, core: &mut Core, key: usize) -> bool {
        let Some(Sock::Local(local)) = self.socks.get_mut(key) else { return false };
        let LocalSocket::Tcp(stream) = &local.socket else { return true };
        match (socket::look_at_dial(stream), local.partner) {
            (Dialled::Pending, _) => false,
            (Dialled::Established { .. }, Some(path)) => {
                local.connecting = false;
                self.send_record(core, path, &Record::Opened);
                self.flush_local(core, key);
                true
            }
            (Dialled::Failed(error), Some(path)) => {
                self.drop_sock(core, key);
                self.refuse_service(core, path, &error);
                false
            }
            (_, None) => {
                self.drop_sock(core, key);
                false
            }
        }
    }

    fn flush_local(&mut self, core: &mut Core, key: usize) {
        let Some(Sock::Local(local)) = self.socks.get_mut(key) else { return };
        let partner = local.partner;
        match (local.flush(), partner) {
            (Ok(()), Some(path)) => {
                self.resume_path(core, path);
                self.close_if_done(core, path);
            }
            // The connection has ended well, and this was the rest.
            (Ok(()), None) if local.write_done => self.drop_sock(core, key),
            (Ok(()), None) => {}
            (Err(error), Some(path)) => {
                self.end_stream(core, path, Some(StreamError::Local(error.to_string())));
            }
            (Err(_), None) => self.drop_sock(core, key),
        }
    }

    /// Reads a turn's worth from the local socket and sends it.
    fn read_local(&mut self, core: &mut Core, key: usize) {
        let mut scratch = core.take_scratch();
        let mut turn = 0;
        while let Some(Sock::Local(local)) = self.socks.get(key) {
            let (Some(path_key), false) = (local.partner, local.read_done) else { break };
            let Some(Sock::Path(path)) = self.socks.get(path_key) else { break };
            let full = path.wire.out.len() >= limits::STREAM_BACKLOG_BYTES;
            let Some(Sock::Local(local)) = self.socks.get_mut(key) else { break };
            if full {
                local.paused = true;
                break;
            }
            if turn >= limits::TURN_BYTES {
                core.requeue(local.token, Readiness::READABLE);
                break;
            }
            match local.socket.read(&mut scratch) {
                Ok(0) => {
                    local.read_done = true;
                    self.send_fin(core, path_key);
                    break;
                }
                Ok(length) => {
                    turn += length;
                    self.send_data(core, path_key, &scratch[..length]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let error = StreamError::Local(error.to_string());
                    self.end_stream(core, path_key, Some(error));
                    break;
                }
            }
        }
        core.put_scratch(scratch);
    }

    // ---- backpressure ----

    /// Whether the local end has so much to take that the connection must not be read.
    pub(in crate::net::peer) fn is_stream_full(&self, key: usize) -> bool {
        let Some(Sock::Path(path)) = self.socks.get(key) else { return false };
        let Stage::Direct(direct) = &path.stage else { return false };
        let waiting = match &direct.partner {
            Partner::Socket(local) => match self.socks.get(*local) {
                Some(Sock::Local(local)) => local.out.len(),
                _ => 0,
            },
            Partner::Application(inbox) => inbox.bytes.len(),
            Partner::Pending(_) => return true,
            Partner::Nothing | Partner::Refused => 0,
        };
        waiting >= limits::STREAM_BACKLOG_BYTES
    }

    pub(in crate::net::peer) fn pause_path(&mut self, key: usize) {
        if let Some(direct) = self.direct(key) {
            direct.paused = true;
        }
    }

    /// Has the connection read again once the local end has taken enough.
    pub(super) fn resume_path(&mut self, core: &mut Core, key: usize) {
        if self.is_stream_full(key) {
            return;
        }
        let Some(Sock::Path(path)) = self.socks.get_mut(key) else { return };
        let Stage::Direct(direct) = &mut path.stage else { return };
        if std::mem::take(&mut direct.paused) {
            core.requeue(path.wire.token, Readiness::READABLE);
        }
    }
}
