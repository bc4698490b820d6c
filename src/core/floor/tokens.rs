//! Tokens: made, taken back, used.

use serde_json::json;

use crate::core::command::Command;
use crate::core::event::Event;
use crate::core::floor::command::Effect;
use crate::core::floor::{Fact, Floor, Note};
use crate::core::observation::Deed;
use crate::core::refusal::Refusal;
use crate::core::time::Timestamp;
use crate::core::token::{AccessToken, TokenCreate, TokenName, TokenRevoke};

/// More are a sign that something makes them in a loop.
const MOST: usize = 1000;

impl Floor {
    pub fn learn_token(&mut self, token: AccessToken) {
        self.tokens.insert(token.name.clone(), token);
    }

    pub(super) fn create_token(
        &self,
        wanted: &TokenCreate,
        command: &Command,
        now: Timestamp,
    ) -> Result<Effect, Refusal> {
        if self.tokens.get(&wanted.name).is_some_and(AccessToken::is_valid) {
            let detail = format!("there is a token {} already; revoke it first, or take another name", wanted.name);
            return Err(Refusal::new(409, "already_exists", detail));
        }
        if self.tokens.values().any(|token| token.sha256 == wanted.sha256) {
            return Err(Refusal::invalid("/params/sha256", "another token has this hash"));
        }
        if self.tokens.len() >= MOST {
            return Err(Refusal::new(409, "too_many", format!("there are {MOST} tokens already")));
        }
        let token = AccessToken {
            name: wanted.name.clone(),
            role: wanted.role,
            sha256: wanted.sha256,
            created_at: now,
            created_by: command.actor.id.clone(),
            revoked_at: None,
            revoked_by: None,
            last_used: None,
        };
        let shown = json!({"token": token.shown()});
        Ok((vec![Note::Token(Box::new(token)).into()], shown))
    }

    /// Its row stays, so that its name in the journal keeps its meaning.
    pub(super) fn revoke_token(
        &self,
        wanted: &TokenRevoke,
        command: &Command,
        now: Timestamp,
    ) -> Result<Effect, Refusal> {
        let token = self.tokens.get(&wanted.token).ok_or_else(|| Refusal::not_found("token", &wanted.token))?;
        if !token.is_valid() {
            return Ok((Vec::new(), json!({"token": token.shown()})));
        }
        let revoked =
            AccessToken { revoked_at: Some(now), revoked_by: Some(command.actor.id.clone()), ..token.clone() };
        let shown = json!({"token": revoked.shown()});
        Ok((vec![Note::Token(Box::new(revoked)).into()], shown))
    }

    pub(super) fn list_tokens(&self) -> Effect {
        let tokens: Vec<_> = self.tokens.values().map(AccessToken::shown).collect();
        (Vec::new(), json!({"tokens": tokens}))
    }

    /// When each was last shown; never set back.
    pub(super) fn tokens_used(&self, used: &[(TokenName, Timestamp)]) -> Vec<Fact> {
        let newer = |(name, at): &(TokenName, Timestamp)| {
            let token = self.tokens.get(name).filter(|token| token.last_used.is_none_or(|before| before < *at))?;
            Some(Note::Token(Box::new(AccessToken { last_used: Some(*at), ..token.clone() })).into())
        };
        used.iter().filter_map(newer).collect()
    }
}

/// An unsafe call that is no command leaves its trace like one.
pub(super) fn audited(deed: &Deed) -> Fact {
    Event::CommandCompleted {
        command_id: deed.id.to_string(),
        name: deed.name.clone(),
        actor: json!(deed.actor),
        transport: deed.transport.as_str().to_owned(),
        status: if deed.code < 400 { "succeeded" } else { "rejected" }.to_owned(),
        code: deed.code,
        correlation_id: None,
        error: None,
    }
    .into()
}
