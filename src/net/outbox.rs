//! Writes that go straight out, and a queue for what the kernel would not take.

use std::io::{self, Write};

/// What a socket still has to write. Empty, it holds no memory.
#[derive(Debug, Default)]
pub struct Outbox {
    queue: Vec<u8>,
    /// Bytes of `queue` that are written already.
    written: usize,
}

impl Outbox {
    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.queue.len() - self.written
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes `bytes` after what waits, and queues what the kernel doesn't take. Whoever calls this
    /// looks at [`Self::len`] first: the queue has no bound of its own.
    ///
    /// # Errors
    /// What write(2) says; the connection is over then.
    pub fn send(&mut self, socket: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
        let taken = if self.is_empty() { write_some(socket, bytes)? } else { 0 };
        self.queue.extend_from_slice(&bytes[taken..]);
        Ok(())
    }

    /// Queues `bytes` without trying to write.
    pub fn push(&mut self, bytes: &[u8]) {
        self.queue.extend_from_slice(bytes);
    }

    /// Writes what waits, as far as the kernel takes it.
    ///
    /// # Errors
    /// What write(2) says; the connection is over then.
    pub fn flush(&mut self, socket: &mut impl Write) -> io::Result<()> {
        self.written += write_some(socket, &self.queue[self.written..])?;
        if self.is_empty() {
            *self = Self::default();
        } else if self.written > self.queue.len() / 2 {
            self.queue.drain(..self.written);
            self.written = 0;
        }
        Ok(())
    }
}

/// Writes until the kernel takes no more; returns how much it took.
fn write_some(socket: &mut impl Write, bytes: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while written < bytes.len() {
        match socket.write(&bytes[written..]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes `room` bytes, then would block.
    struct Narrow {
        room: usize,
        taken: Vec<u8>,
    }

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.room).min(3);
            if count == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.room -= count;
            self.taken.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn keeps_the_order_and_gives_its_memory_back() {
        let mut socket = Narrow { room: 5, taken: Vec::new() };
        let mut outbox = Outbox::default();
        outbox.send(&mut socket, b"abcdefgh").unwrap();
        assert_eq!(outbox.len(), 3);
        outbox.send(&mut socket, b"ij").unwrap();
        assert_eq!(outbox.len(), 5);
        socket.room = 4;
        outbox.flush(&mut socket).unwrap();
        assert_eq!(outbox.len(), 1);
        socket.room = 9;
        outbox.flush(&mut socket).unwrap();
        assert!(outbox.is_empty());
        assert_eq!(socket.taken, b"abcdefghij");
        assert_eq!(outbox.queue.capacity(), 0);
    }
}
