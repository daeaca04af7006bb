//! Frames: `length: u16 BE | body`, over reads that may hold half a frame or twenty.

use std::fmt;

/// Bytes of a frame before its body.
pub const HEADER_BYTES: usize = 2;

/// Cuts a stream of bytes into frames.
///
/// Whole frames are handed out where they lie in the caller's read buffer; only an incomplete one is
/// copied and kept, so that a silent connection keeps nothing.
#[derive(Debug, Default)]
pub struct FrameReader {
    kept: Option<Box<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    /// The beginning of a frame that has not arrived whole, or the last frame handed out.
    bytes: Vec<u8>,
    /// It was handed out and is forgotten at the next call.
    spent: bool,
}

impl Kept {
    fn take_up_to(&mut self, input: &[u8], length: usize) -> usize {
        let wanted = length.saturating_sub(self.bytes.len()).min(input.len());
        self.bytes.extend_from_slice(&input[..wanted]);
        wanted
    }
}

impl FrameReader {
    /// A reader at the beginning of a frame.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next frame from `input` and says how many bytes of it were used; the body is
    /// mutable so that it can be decrypted in place. With `None` all of `input` was used and more is
    /// needed. Call again with the rest of `input` until then.
    ///
    /// # Errors
    /// [`FrameError`] when the length is zero or above `limit` bytes. The stream can't be read on.
    pub fn next<'a>(
        &'a mut self,
        input: &'a mut [u8],
        limit: usize,
    ) -> Result<(usize, Option<&'a mut [u8]>), FrameError> {
        if self.is_empty() {
            self.kept = None;
            return self.next_in_place(input, limit);
        }
        let kept = self.kept.get_or_insert_default();
        let mut used = kept.take_up_to(input, HEADER_BYTES);
        if kept.bytes.len() < HEADER_BYTES {
            return Ok((used, None));
        }
        let end = HEADER_BYTES + body_length(&kept.bytes, limit)?;
        used += kept.take_up_to(&input[used..], end);
        if kept.bytes.len() < end {
            return Ok((used, None));
        }
        kept.spent = true;
        Ok((used, Some(&mut kept.bytes[HEADER_BYTES..])))
    }

    /// Whether the stream stands between two frames.
    pub fn is_empty(&self) -> bool {
        self.kept.as_ref().is_none_or(|kept| kept.spent)
    }

    fn next_in_place<'a>(
        &mut self,
        input: &'a mut [u8],
        limit: usize,
    ) -> Result<(usize, Option<&'a mut [u8]>), FrameError> {
        if input.is_empty() {
            return Ok((0, None));
        }
        let mut kept = Kept::default();
        if input.len() >= HEADER_BYTES {
            let end = HEADER_BYTES + body_length(input, limit)?;
            if input.len() >= end {
                return Ok((end, Some(&mut input[HEADER_BYTES..end])));
            }
            kept.bytes.reserve_exact(end);
        }
        kept.bytes.extend_from_slice(input);
        self.kept = Some(Box::new(kept));
        Ok((input.len(), None))
    }
}

fn body_length(header: &[u8], limit: usize) -> Result<usize, FrameError> {
    let length = usize::from(u16::from_be_bytes([header[0], header[1]]));
    match length {
        0 => Err(FrameError::Empty),
        length if length > limit => Err(FrameError::TooLong { length, limit }),
        length => Ok(length),
    }
}

/// Appends a frame whose body `write` appends.
///
/// # Panics
/// If the body is longer than a frame can be: bodies are bounded where they are made.
pub fn write_frame(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    write(out);
    let length = u16::try_from(out.len() - start - HEADER_BYTES).expect("a bounded frame body");
    out[start..start + HEADER_BYTES].copy_from_slice(&length.to_be_bytes());
}

/// The stream does not hold frames of ours: the peer is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// A frame with no body.
    Empty,
    /// A frame that says it is longer than anything we send there.
    TooLong {
        /// What the frame says, in bytes.
        length: usize,
        /// What is allowed at this point of the stream, in bytes.
        limit: usize,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("an empty frame"),
            Self::TooLong { length, limit } => {
                write!(f, "a frame of {length} bytes where at most {limit} are allowed")
            }
        }
    }
}

impl std::error::Error for FrameError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stream_of(bodies: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        for body in bodies {
            write_frame(&mut out, |out| out.extend_from_slice(body));
        }
        out
    }

    fn read(reader: &mut FrameReader, chunk: &[u8], frames: &mut Vec<Vec<u8>>) {
        let mut chunk = chunk.to_vec();
        let mut at = 0;
        loop {
            let (used, frame) = reader.next(&mut chunk[at..], 1000).unwrap();
            at += used;
            match frame {
                Some(frame) => frames.push(frame.to_vec()),
                None => break,
            }
        }
        assert_eq!(at, chunk.len(), "with None all of the input was used");
    }

    #[test]
    fn every_split_point_gives_the_same_frames() {
        let bodies = vec![vec![1], vec![2; 300], vec![3; 7], vec![4; 1000]];
        let stream = stream_of(&bodies);
        for split in 0..=stream.len() {
            let (mut reader, mut frames) = (FrameReader::new(), Vec::new());
            read(&mut reader, &stream[..split], &mut frames);
            read(&mut reader, &stream[split..], &mut frames);
            assert_eq!(frames, bodies, "split at {split}");
            assert!(reader.is_empty());
        }
    }

    #[test]
    fn one_byte_at_a_time() {
        let bodies = vec![vec![9; 260], vec![8]];
        let (mut reader, mut frames) = (FrameReader::new(), Vec::new());
        for byte in stream_of(&bodies) {
            read(&mut reader, &[byte], &mut frames);
        }
        assert_eq!(frames, bodies);
    }

    #[test]
    fn a_length_of_zero_or_above_the_limit_names_itself() {
        assert_eq!(FrameReader::new().next(&mut [0, 0], 9), Err(FrameError::Empty));
        let too_long = FrameError::TooLong { length: 10, limit: 9 };
        assert_eq!(FrameReader::new().next(&mut [0, 10], 9), Err(too_long));
        let mut reader = FrameReader::new();
        assert_eq!(reader.next(&mut [0], 9), Ok((1, None)));
        assert_eq!(reader.next(&mut [10], 9), Err(too_long));
    }

    #[test]
    fn a_reader_between_frames_keeps_no_memory() {
        let (mut reader, mut frames) = (FrameReader::new(), Vec::new());
        let stream = stream_of(&[vec![7; 500]]);
        read(&mut reader, &stream[..100], &mut frames);
        read(&mut reader, &stream[100..], &mut frames);
        assert_eq!(frames.len(), 1);
        assert!(reader.kept.is_none());
    }

    proptest! {
        #[test]
        fn random_chunks_give_the_same_frames(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..600), 1..8),
            chunk in 1usize..700,
        ) {
            let (mut reader, mut frames) = (FrameReader::new(), Vec::new());
            for piece in stream_of(&bodies).chunks(chunk) {
                read(&mut reader, piece, &mut frames);
            }
            prop_assert_eq!(frames, bodies);
        }

        #[test]
        fn random_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let mut reader = FrameReader::new();
            let mut at = 0;
            while let Ok((used, Some(_))) = reader.next(&mut bytes[at..], 1000) {
                at += used;
            }
        }
    }
}
