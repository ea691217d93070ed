//! What the replies to a series of echo requests mean.

/// What a series came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SeriesState {
    /// Every request was answered.
    Replied,
    /// Some were: the target lives, the path loses packets.
    Lossy,
    /// None was.
    Silent,
}

impl SeriesState {
    /// Returns the reason of the outcome.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Replied => "replied",
            Self::Lossy => "lossy",
            Self::Silent => "timeout",
        }
    }
}

/// Judges a series by how many of its requests were answered.
pub fn judge(sent: u32, answered: u32) -> SeriesState {
    match answered {
        0 => SeriesState::Silent,
        n if n < sent => SeriesState::Lossy,
        _ => SeriesState::Replied,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_reply_of_many_is_a_sign_of_life() {
        assert_eq!(judge(3, 0), SeriesState::Silent);
        assert_eq!(judge(3, 1), SeriesState::Lossy);
        assert_eq!(judge(3, 3), SeriesState::Replied);
    }
}
