//! Writes that go straight out, and a queue for what the kernel would not take.

use std::io::{self, Write};

/// What a socket still has to write. Empty, it is a pointer to nothing.
#[derive(Debug, Default)]
pub struct Outbox {
    queue: Option<Box<Queue>>,
}

#[derive(Debug, Default)]
struct Queue {
    bytes: Vec<u8>,
    /// How many of `bytes` are written already.
    written: usize,
}

impl Queue {
    fn waiting(&self) -> &[u8] {
        &self.bytes[self.written..]
    }
}

impl Outbox {
    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.waiting().len())
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
        self.push(&bytes[taken..]);
        Ok(())
    }

    /// Queues `bytes` without trying to write.
    pub fn push(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.queue.get_or_insert_default().bytes.extend_from_slice(bytes);
        }
    }

    /// Writes what waits, as far as the kernel takes it.
    ///
    /// # Errors
    /// What write(2) says; the connection is over then.
    pub fn flush(&mut self, socket: &mut impl Write) -> io::Result<()> {
        let Some(queue) = &mut self.queue else { return Ok(()) };
        queue.written += write_some(socket, queue.waiting())?;
        if queue.waiting().is_empty() {
            self.queue = None;
        } else if queue.written > queue.bytes.len() / 2 {
            queue.bytes.drain(..queue.written);
            queue.written = 0;
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
        assert!(outbox.queue.is_none());
    }
}
