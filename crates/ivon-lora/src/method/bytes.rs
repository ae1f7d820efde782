//! An optimizer's state as bytes and back: whole numbers and lists of numbers, little-endian; a list
//! follows its length.

use crate::train::TrainError;

/// Appends to bytes.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Appends a whole number.
    pub fn whole(mut self, number: u64) -> Self {
        self.bytes.extend(number.to_le_bytes());
        self
    }

    /// Appends a list of bytes.
    pub fn bytes(self, bytes: &[u8]) -> Self {
        let mut with = self.whole(bytes.len() as u64);
        with.bytes.extend(bytes);
        with
    }

    /// Appends a list of f32.
    pub fn singles(self, numbers: &[f32]) -> Self {
        let mut with = self.whole(numbers.len() as u64);
        with.bytes
            .extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        with
    }

    /// Appends a list of f64.
    pub fn doubles(self, numbers: &[f64]) -> Self {
        let mut with = self.whole(numbers.len() as u64);
        with.bytes
            .extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        with
    }

    /// The bytes.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// Reads bytes from their beginning. No length is trusted beyond the bytes that are there.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// From the beginning of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], TrainError> {
        let short = || TrainError::Optimizer {
            reason: format!("the state ends {} bytes too early", count - self.rest.len()),
        };
        let (taken, rest) = self.rest.split_at_checked(count).ok_or_else(short)?;
        self.rest = rest;
        Ok(taken)
    }

    /// A whole number.
    ///
    /// # Errors
    /// If too few bytes are left; so for all methods below.
    pub fn whole(&mut self) -> Result<u64, TrainError> {
        let bytes = self.take(8)?;
        Ok(bytes
            .iter()
            .rev()
            .fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn list(&mut self, size: usize) -> Result<&'a [u8], TrainError> {
        let count = self.whole()?;
        let bytes = usize::try_from(count)
            .ok()
            .and_then(|count| count.checked_mul(size));
        self.take(bytes.ok_or_else(|| TrainError::Optimizer {
            reason: format!("the state has a list of {count} numbers"),
        })?)
    }

    /// A list of bytes.
    pub fn bytes(&mut self) -> Result<&'a [u8], TrainError> {
        self.list(1)
    }

    /// A list of f32, which must have length `len`.
    pub fn singles(&mut self, len: usize) -> Result<Vec<f32>, TrainError> {
        let list: Vec<f32> = self
            .list(4)?
            .as_chunks::<4>()
            .0
            .iter()
            .map(|four| f32::from_le_bytes(*four))
            .collect();
        if list.len() == len {
            Ok(list)
        } else {
            Err(other_length(list.len(), len))
        }
    }

    /// A list of f64, which must have length `len`.
    pub fn doubles(&mut self, len: usize) -> Result<Vec<f64>, TrainError> {
        let list: Vec<f64> = self
            .list(8)?
            .as_chunks::<8>()
            .0
            .iter()
            .map(|eight| f64::from_le_bytes(*eight))
            .collect();
        if list.len() == len {
            Ok(list)
        } else {
            Err(other_length(list.len(), len))
        }
    }

    /// Checks that nothing is left.
    pub fn finish(self) -> Result<(), TrainError> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(TrainError::Optimizer {
            reason: format!("the state has {} bytes too many", self.rest.len()),
        })
    }
}

fn other_length(found: usize, expected: usize) -> TrainError {
    TrainError::Optimizer {
        reason: format!("the state has a list of {found} numbers, expected {expected}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back_and_nothing_else_does() {
        let bytes = Writer::default()
            .whole(7)
            .bytes(&[1, 2])
            .singles(&[0.5])
            .doubles(&[0.1, -3.0])
            .finish();
        let read = |bytes: &[u8]| {
            let mut reader = Reader::new(bytes);
            let found = (
                reader.whole()?,
                reader.bytes()?.to_vec(),
                reader.singles(1)?,
                reader.doubles(2)?,
            );
            reader.finish().map(|()| found)
        };
        assert_eq!(
            read(&bytes).unwrap(),
            (7, vec![1, 2], vec![0.5], vec![0.1, -3.0])
        );
        for length in 0..bytes.len() {
            assert!(
                read(&bytes[..length])
                    .unwrap_err()
                    .to_string()
                    .contains("bytes too early"),
                "{length}"
            );
        }
        assert!(
            read(&[&bytes[..], &[0]].concat())
                .unwrap_err()
                .to_string()
                .contains("1 bytes too many")
        );
        let huge = Writer::default().whole(u64::MAX).finish();
        assert!(
            Reader::new(&huge)
                .singles(1)
                .unwrap_err()
                .to_string()
                .contains("a list of 18446744073709551615 numbers")
        );
        assert!(Reader::new(&huge[..8]).bytes().is_err());
        let two = Writer::default().doubles(&[1.0, 2.0]).finish();
        assert!(
            Reader::new(&two)
                .doubles(3)
                .unwrap_err()
                .to_string()
                .contains("2 numbers, expected 3")
        );
    }
}
