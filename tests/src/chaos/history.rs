//! What clients asked of one key and what they were told, and whether a register could have said so.

use stateright::semantics::register::{Register, RegisterOp, RegisterRet};
use stateright::semantics::{ConsistencyTester, LinearizabilityTester};

/// What a client asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Read the value.
    Read,
    /// Set it.
    Write(u64),
}

/// What a client was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Return {
    /// This is the value; 0 for none.
    Value(u64),
    /// It is set.
    Written,
}

/// One thing that happened at a client, in the order in which things happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// A client asked; a client asks one thing at a time.
    Asked(u64, Op),
    /// It was told.
    Told(u64, Return),
}

/// The history of one key. Calls that were never answered stay open: they may have been done at any time since, or never.
#[derive(Debug, Clone, Default)]
pub struct History {
    calls: Vec<Call>,
}

impl History {
    /// Adds what happened next.
    pub fn push(&mut self, call: Call) {
        self.calls.push(call);
    }

    /// Takes back a read that was asked and not answered: it changed nothing and says nothing.
    pub fn forget_read(&mut self, client: u64) {
        let asked = |call: &Call| matches!(call, Call::Asked(by, Op::Read) if *by == client);
        if let Some(at) = self.calls.iter().rposition(asked) {
            self.calls.remove(at);
        }
    }

    /// Returns how many calls were answered.
    pub fn answered(&self) -> usize {
        self.calls.iter().filter(|call| matches!(call, Call::Told(..))).count()
    }

    /// Returns whether there is an order of the calls, each between its question and its answer, in which a register that
    /// begins with 0 would have given these answers.
    ///
    /// # Errors
    /// A text when a client asked twice at once, or was told what it did not ask.
    pub fn is_linearizable(&self) -> Result<bool, String> {
        let mut tester = LinearizabilityTester::new(Register(0_u64));
        for call in &self.calls {
            match *call {
                Call::Asked(client, Op::Read) => tester.on_invoke(client, RegisterOp::Read)?,
                Call::Asked(client, Op::Write(value)) => tester.on_invoke(client, RegisterOp::Write(value))?,
                Call::Told(client, Return::Value(value)) => tester.on_return(client, RegisterRet::ReadOk(value))?,
                Call::Told(client, Return::Written) => tester.on_return(client, RegisterRet::WriteOk)?,
            };
        }
        Ok(tester.is_consistent())
    }

    /// Returns a line per call.
    pub fn lines(&self) -> String {
        self.calls.iter().map(|call| format!("  {call:?}\n")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(calls: &[Call]) -> History {
        History { calls: calls.to_vec() }
    }

    #[test]
    fn a_value_that_was_acknowledged_has_to_be_read_and_an_older_one_must_not_come_back() {
        use Call::{Asked, Told};
        let write = [Asked(1, Op::Write(7)), Told(1, Return::Written)];
        let read = |value| [Asked(2, Op::Read), Told(2, Return::Value(value))];
        assert_eq!(history(&[write, read(7)].concat()).is_linearizable(), Ok(true));
        assert_eq!(history(&[write, read(0)].concat()).is_linearizable(), Ok(false), "a stale read");
        assert_eq!(history(&[write, read(8)].concat()).is_linearizable(), Ok(false), "out of nowhere");
        let torn = [write.as_slice(), &read(7), &[Asked(1, Op::Write(8))], &read(8), &read(7)].concat();
        assert_eq!(history(&torn).is_linearizable(), Ok(false), "back to an older value");
    }

    #[test]
    fn a_write_that_nobody_answered_may_have_been_done_or_not() {
        use Call::{Asked, Told};
        let unsure = [Asked(1, Op::Write(7))];
        let read = |value| [Asked(2, Op::Read), Told(2, Return::Value(value))];
        for reads in [[read(0), read(0)], [read(0), read(7)], [read(7), read(7)]] {
            let calls = [unsure.as_slice(), &reads.concat()].concat();
            assert_eq!(history(&calls).is_linearizable(), Ok(true), "{calls:?}");
        }
        let calls = [unsure.as_slice(), &read(7), &read(0)].concat();
        assert_eq!(history(&calls).is_linearizable(), Ok(false), "done, and then not");
    }

    #[test]
    fn a_read_that_nobody_answered_is_forgotten() {
        let mut kept = history(&[Call::Asked(1, Op::Write(7)), Call::Asked(2, Op::Read)]);
        kept.forget_read(2);
        assert_eq!(kept.calls, [Call::Asked(1, Op::Write(7))]);
    }
}
