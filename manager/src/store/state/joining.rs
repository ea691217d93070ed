//! Join tokens: made, used, revoked. Whether one still holds is judged by the time that the command carries.

use std::sync::Arc;
use std::time::Duration;

use vouch_types::join::{JOIN_TOKEN_TTL_MAX, JOIN_TOKEN_TTL_MIN, JOIN_TOKEN_USES_MAX, JOIN_TOKENS_MAX, JOIN_USES_KEPT};
use vouch_types::{
    Applied, DenyReason, Digest, EventKind, Incarnation, JoinFor, JoinRefusal, JoinStanding, JoinTokenId,
    JoinTokenRecord, JoinUse, Joiner, WallTime, WatcherId, WatcherLife,
};

use super::State;
use super::apply::{Outcome, Step};
use super::inventory::limit;
use super::watchers::same_secret;

impl State {
    /// Returns all join tokens that are kept, oldest first: those that have ended stay until they make room.
    pub fn join_tokens(&self) -> &[JoinTokenRecord] {
        &self.head.join_tokens
    }

    /// Returns a join token.
    pub fn join_token(&self, id: JoinTokenId) -> Option<&JoinTokenRecord> {
        self.head.join_tokens.iter().find(|token| token.id == id)
    }

    /// Returns the token with this secret if it lets `wanted` in. The same request as before is let in again.
    ///
    /// # Errors
    /// [`JoinRefusal`] says why not. It names no token to one who does not know its secret.
    pub fn join_allowed(&self, secret_hash: &Digest, wanted: &JoinUse) -> Result<&JoinTokenRecord, JoinRefusal> {
        // All are compared, each in constant time: how long it takes tells nothing of any.
        let mut found = None;
        for token in &self.head.join_tokens {
            if same_secret(Some(token.secret_hash.as_bytes()), secret_hash.as_bytes()) {
                found = Some(token);
            }
        }
        let token = found.ok_or(JoinRefusal::Unknown)?;
        let again = was_used_by(token, wanted);
        match token.standing(wanted.at) {
            JoinStanding::Open => {}
            JoinStanding::UsedUp if again => {}
            JoinStanding::UsedUp => return Err(JoinRefusal::UsedUp { token: token.id, uses: token.uses_max }),
            JoinStanding::Expired => return Err(JoinRefusal::Expired(token.id)),
            JoinStanding::Revoked => return Err(JoinRefusal::Revoked(token.id)),
        }
        let (role, shown) = (token.allows.role(), wanted.joiner.role());
        if role != shown {
            return Err(JoinRefusal::WrongRole { token: token.id, wanted: role, shown });
        }
        if let JoinFor::One(one) = &token.allows
            && *one != wanted.joiner
        {
            let shown = wanted.joiner.clone();
            return Err(JoinRefusal::WrongName { token: token.id, wanted: one.clone(), shown });
        }
        match &wanted.joiner {
            Joiner::Watcher(id) if !again && !self.waits_for_certificate(*id) => {
                Err(JoinRefusal::NoSuchWatcher(wanted.joiner.clone()))
            }
            Joiner::Watcher(_) | Joiner::Manager(_) | Joiner::Node(_) => Ok(token),
        }
    }

    fn waits_for_certificate(&self, watcher: WatcherId) -> bool {
        self.watchers.get(&watcher).is_some_and(|watcher| watcher.life == WatcherLife::Placed)
    }

    pub(super) fn create_join_token(
        &mut self,
        step: &mut Step,
        allows: JoinFor,
        secret_hash: Digest,
        uses: u32,
        ttl: Duration,
        at: WallTime,
    ) -> Outcome {
        let bad = |field: &str, value: String, rule: String| {
            Err(DenyReason::BadValue { field: field.to_owned(), value, rule })
        };
        if !(1..=JOIN_TOKEN_USES_MAX).contains(&uses) {
            return bad("uses", uses.to_string(), format!("from 1 to {JOIN_TOKEN_USES_MAX}"));
        }
        if !(JOIN_TOKEN_TTL_MIN..=JOIN_TOKEN_TTL_MAX).contains(&ttl) {
            let rule = format!("from {JOIN_TOKEN_TTL_MIN:?} to {JOIN_TOKEN_TTL_MAX:?}");
            return bad("ttl", format!("{ttl:?}"), rule);
        }
        if self.head.join_tokens.len() >= JOIN_TOKENS_MAX {
            let ended = self.head.join_tokens.iter().position(|token| token.standing(at) != JoinStanding::Open);
            match ended {
                Some(oldest) => self.head.join_tokens.remove(oldest),
                None => return limit("join tokens", JOIN_TOKENS_MAX + 1, JOIN_TOKENS_MAX).and(step.done()),
            };
        }
        self.head.join_tokens_made += 1;
        let id = JoinTokenId::new(self.head.join_tokens_made);
        let millis = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        let expires = WallTime::from_unix_millis(at.as_unix_millis().saturating_add(millis));
        self.touch_join_tokens(step);
        step.event(at, EventKind::JoinTokenCreated { token: id, allows: allows.clone(), uses, expires });
        self.head.join_tokens.push(JoinTokenRecord {
            id,
            allows,
            secret_hash,
            uses_max: uses,
            uses: 0,
            last_uses: Vec::new(),
            created: at,
            expires,
            revoked: None,
            modified: step.index,
        });
        Ok(Applied::JoinTokenCreated { index: step.index, token: id })
    }

    pub(super) fn revoke_join_token(&mut self, step: &mut Step, id: JoinTokenId, at: WallTime) -> Outcome {
        let token = self.head.join_tokens.iter_mut().find(|token| token.id == id);
        let token = token.ok_or(DenyReason::UnknownJoinToken(id))?;
        if token.revoked.is_some() {
            return step.done();
        }
        token.revoked = Some(at);
        token.modified = step.index;
        self.touch_join_tokens(step);
        step.event(at, EventKind::JoinTokenRevoked { token: id });
        step.done()
    }

    pub(super) fn redeem_join_token(
        &mut self,
        step: &mut Step,
        secret_hash: &Digest,
        wanted: JoinUse,
        key: Option<Digest>,
        incarnation: Incarnation,
    ) -> Outcome {
        let token = self.join_allowed(secret_hash, &wanted).map_err(DenyReason::JoinRefused)?;
        let (id, again) = (token.id, was_used_by(token, &wanted));
        if again {
            return step.done();
        }
        let (joiner, at) = (wanted.joiner.clone(), wanted.at);
        if let Some(token) = self.head.join_tokens.iter_mut().find(|token| token.id == id) {
            token.uses += 1;
            token.modified = step.index;
            token.last_uses.push(wanted);
            let surplus = token.last_uses.len().saturating_sub(JOIN_USES_KEPT);
            token.last_uses.drain(..surplus);
        }
        self.touch_join_tokens(step);
        step.event(at, EventKind::JoinTokenUsed { token: id, joiner: joiner.clone() });
        match joiner {
            Joiner::Watcher(watcher) => {
                // Its one-time secret is worth nothing from now on.
                Arc::make_mut(self.watcher_mut(watcher)?).secret_hash = None;
                self.watcher_lives(step, watcher, incarnation, at)
            }
            Joiner::Node(node) => {
                self.admit_again(step, &node, key);
                step.done()
            }
            Joiner::Manager(_) => step.done(),
        }
    }

    pub(super) fn touch_join_tokens(&mut self, step: &mut Step) {
        self.marks.join_tokens = step.index;
        step.changes.head = true;
    }
}

fn was_used_by(token: &JoinTokenRecord, wanted: &JoinUse) -> bool {
    token.last_uses.iter().any(|used| used.joiner == wanted.joiner && used.request == wanted.request)
}
