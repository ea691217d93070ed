//! ASN.1 as CredSSP and SPNEGO carry it: tag, length, value (X.690 8.1), read and written.
//!
//! Both prescribe DER. DER is what is written; what is read may have any definite length that BER allows, so that a server
//! that writes a length longer than it must is not taken for a broken one. Tags have one byte, for neither protocol has
//! another. It reads in place and one level at a time: no message can make it allocate, recurse, or look past its end.

/// Tags (X.690 8.1.2).
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const SEQUENCE: u8 = 0x30;

/// Enough bytes of a message for its tag and its length.
pub(crate) const HEAD_LEN: usize = 6;
/// The first bit of a length says that its other bits tell how many bytes it has.
const LONG: u8 = 0x80;
/// The most bytes of a length that is read: more could not be the length of anything that is taken.
const LENGTH_BYTES_MAX: usize = 4;

/// Returns the tag of a field `[number]` with an explicit tag.
pub(crate) const fn context(number: u8) -> u8 {
    0xa0 | number
}

/// Why bytes are not what they should be.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error, Debug)]
pub enum BerError {
    /// They end too early.
    #[error("it is cut short")]
    Short,
    /// Something else stands there.
    #[error("tag {found:#04x} stands where tag {wanted:#04x} belongs")]
    Tag {
        /// What was looked for.
        wanted: u8,
        /// What stands there.
        found: u8,
    },
    /// The length is indefinite or has too many bytes.
    #[error("a length begins with {0:#04x}")]
    Length(u8),
    /// The number does not fit.
    #[error("a number has {0} bytes")]
    Number(usize),
}

/// The values of one level, read one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Returns the value with this tag, which must come next.
    pub(crate) fn value(&mut self, wanted: u8) -> Result<&'a [u8], BerError> {
        let found = *self.0.first().ok_or(BerError::Short)?;
        if found != wanted {
            return Err(BerError::Tag { wanted, found });
        }
        let (head, length) = lengths(self.0)?;
        let end = head.checked_add(length).ok_or(BerError::Short)?;
        let value = self.0.get(head..end).ok_or(BerError::Short)?;
        self.0 = &self.0[end..];
        Ok(value)
    }

    /// Returns the value with this tag if it comes next.
    pub(crate) fn optional(&mut self, wanted: u8) -> Result<Option<&'a [u8]>, BerError> {
        if self.0.first() == Some(&wanted) { self.value(wanted).map(Some) } else { Ok(None) }
    }
}

/// Returns the length of the whole message that begins with these bytes, its head included.
pub(crate) fn whole_length(first: &[u8; HEAD_LEN], tag: u8) -> Result<usize, BerError> {
    if first[0] != tag {
        return Err(BerError::Tag { wanted: tag, found: first[0] });
    }
    let (head, length) = lengths(first)?;
    head.checked_add(length).ok_or(BerError::Length(first[1]))
}

/// Returns the lengths of the head and of the value that follows it.
fn lengths(bytes: &[u8]) -> Result<(usize, usize), BerError> {
    let first = *bytes.get(1).ok_or(BerError::Short)?;
    if first & LONG == 0 {
        return Ok((2, usize::from(first)));
    }
    let count = usize::from(first & !LONG);
    if !(1..=LENGTH_BYTES_MAX).contains(&count) {
        return Err(BerError::Length(first));
    }
    let length = bytes.get(2..2 + count).ok_or(BerError::Short)?;
    Ok((2 + count, length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte))))
}

/// Returns a number that is not negative as the value of an INTEGER, or the 32 bits of one that is.
pub(crate) fn number(value: &[u8]) -> Result<u32, BerError> {
    let sign = if value.first().is_some_and(|first| first & 0x80 != 0) { u32::MAX } else { 0 };
    match value {
        // A number whose first bit is set has a zero in front, unless it is negative: NTSTATUS is sent either way.
        [0, bits @ ..] if bits.len() <= 4 => Ok(bits.iter().fold(0, |number, byte| number << 8 | u32::from(*byte))),
        bits if (1..=4).contains(&bits.len()) => {
            Ok(bits.iter().fold(sign, |number, byte| number << 8 | u32::from(*byte)))
        }
        other => Err(BerError::Number(other.len())),
    }
}

/// Returns a value under its tag. Values are short: what is sent fits a length of one byte.
pub(crate) fn wrap(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = u8::try_from(value.len()).ok().filter(|length| length & LONG == 0);
    let mut bytes = vec![tag, length.expect("what this probe sends has less than 128 bytes")];
    bytes.extend_from_slice(value);
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lengths_of_every_form_are_read_and_others_are_refused() {
        let value = |bytes: &[u8]| Reader::new(bytes).value(4).map(<[u8]>::to_vec);
        for head in [&[4, 2][..], &[4, 0x81, 2], &[4, 0x82, 0, 2], &[4, 0x83, 0, 0, 2], &[4, 0x84, 0, 0, 0, 2]] {
            assert_eq!(value(&[head, &[7, 8, 9]].concat()), Ok(vec![7, 8]), "{head:?}");
        }
        assert_eq!(value(&[4, 0x80, 0, 0]), Err(BerError::Length(0x80)), "indefinite");
        assert_eq!(value(&[4, 0x85, 0, 0, 0, 0, 1, 9]), Err(BerError::Length(0x85)));
        assert_eq!(value(&[4, 0x84, 0xff, 0xff, 0xff, 0xff, 9]), Err(BerError::Short));
        assert_eq!(value(&[5, 0]), Err(BerError::Tag { wanted: 4, found: 5 }));
        for cut in [&[][..], &[4], &[4, 0x82, 0], &[4, 2, 1]] {
            assert_eq!(value(cut), Err(BerError::Short), "{cut:?}");
        }
    }

    #[test]
    fn numbers_have_at_most_32_bits() {
        assert_eq!((number(&[6]), number(&[0, 0x80]), number(&[0])), (Ok(6), Ok(128), Ok(0)));
        assert_eq!(number(&[0, 0x80, 0x09, 0x03, 0x08]), Ok(0x8009_0308), "as DER has it");
        assert_eq!(number(&[0x80, 0x09, 0x03, 0x08]), Ok(0x8009_0308), "as a negative number");
        assert_eq!(number(&[0xff]), Ok(u32::MAX));
        assert_eq!((number(&[]), number(&[1; 5])), (Err(BerError::Number(0)), Err(BerError::Number(5))));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_return_more_than_there_is(bytes: Vec<u8>) {
            let mut reader = Reader::new(&bytes);
            while let Some(tag) = reader.0.first().copied() {
                let before = reader.0.len();
                let Ok(value) = reader.value(tag) else { break };
                prop_assert!(reader.0.len() + value.len() < before);
            }
            let _ = number(&bytes);
            if let Some(first) = bytes.first_chunk() {
                let _ = whole_length(first, bytes[0]);
            }
        }

        #[test]
        fn what_is_written_is_read(value in proptest::collection::vec(any::<u8>(), 0..128), tag: u8) {
            let bytes = wrap(tag, &value);
            prop_assert_eq!(Reader::new(&bytes).value(tag), Ok(&value[..]));
        }
    }
}
