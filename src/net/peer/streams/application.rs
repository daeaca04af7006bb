//! The application's end of a stream: read, write, finish, ping.

use std::io::{self, Read};

use super::{Partner, StreamError, StreamId};
use crate::limits;
use crate::net::peer::paths::Stage;
use crate::net::peer::{PeerHost, Sock};
use crate::net::reactor::Core;
use crate::wire::record::Record;

impl PeerHost {
    /// Takes bytes that the other peer has sent on an application's stream; `Ok(0)` is their end.
    ///
    /// # Errors
    /// `WouldBlock` when there are none yet:
    /// [`Event::Readable`](crate::net::peer::Event::Readable) follows. `NotConnected` when the
    /// stream is gone.
    pub fn read(&mut self, core: &mut Core, id: StreamId, buffer: &mut [u8]) -> io::Result<usize> {
        let key = self.stream_key(id)?;
        let (length, at_end) = {
            let direct = self.direct(key).ok_or(io::ErrorKind::NotConnected)?;
            let got_fin = direct.got_fin;
            let Partner::Application(inbox) = &mut direct.partner else {
                return Err(io::ErrorKind::InvalidInput.into());
            };
            let length = inbox.bytes.read(buffer)?;
            if length == 0 && !buffer.is_empty() {
                if !got_fin {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                inbox.at_end = true;
            }
            (length, inbox.at_end)
        };
        self.resume_path(core, key);
        if at_end {
            self.close_if_done(core, key);
        }
        Ok(length)
    }

    /// Sends bytes of the application, as many as there is room for.
    ///
    /// # Errors
    /// `WouldBlock` when there is no room:
    /// [`Event::Writable`](crate::net::peer::Event::Writable) follows. `BrokenPipe` after
    /// [`Self::finish`]. `NotConnected` when the stream is gone.
    pub fn write(&mut self, core: &mut Core, id: StreamId, bytes: &[u8]) -> io::Result<usize> {
        let key = self.stream_key(id)?;
        let Some(Sock::Path(path)) = self.socks.get_mut(key) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let room = limits::STREAM_BACKLOG_BYTES.saturating_sub(path.wire.out.len());
        let Stage::Direct(direct) = &mut path.stage else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        if direct.sent_fin {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let Partner::Application(inbox) = &mut direct.partner else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        if room == 0 {
            inbox.wants_to_write = true;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let length = bytes.len().min(room);
        self.send_data(core, key, &bytes[..length]);
        Ok(length)
    }

    /// Says that the application has no more to send.
    ///
    /// # Errors
    /// `NotConnected` when the stream is gone.
    pub fn finish(&mut self, core: &mut Core, id: StreamId) -> io::Result<()> {
        let key = self.stream_key(id)?;
        self.send_fin(core, key);
        Ok(())
    }

    /// Sends a value that comes back as [`Event::Pong`](crate::net::peer::Event::Pong).
    ///
    /// # Errors
    /// `NotConnected` when the stream is gone.
    pub fn ping(&mut self, core: &mut Core, id: StreamId, value: u64) -> io::Result<()> {
        let key = self.stream_key(id)?;
        self.send_record(core, key, &Record::Ping(value));
        Ok(())
    }

    /// Ends a stream at once, finished or not.
    pub fn close_stream(&mut self, core: &mut Core, id: StreamId) {
        if let Ok(key) = self.stream_key(id) {
            self.end_stream(core, key, Some(StreamError::Closed));
        }
    }

    pub(super) fn stream_key(&self, id: StreamId) -> io::Result<usize> {
        self.streams.get(&id).copied().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}
