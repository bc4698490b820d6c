//! Requests that come over a bus: bytes in, the reply out. The ledger has the one handler; here is only what MQTT and
//! NATS add to it in the same way.

use bytes::Bytes;
use uuid::Uuid;

use crate::core::command::{CommandId, Envelope, Reply, ReplyTo, Salutation, Transport};
use crate::core::refusal::Refusal;
use crate::ledger::Ledger;

/// How many requests of one bus are in work at once; the others wait in the broker.
pub const AT_ONCE: usize = 8;

/// Names the schema of a request, as `dataschema` names that of an event.
pub fn request_schema(name: &str) -> String {
    format!("urn:bootline:schema:command:{name}:1.0")
}

pub fn response_schema(name: &str) -> String {
    format!("urn:bootline:schema:reply:{name}:1.0")
}

/// Carries out a request and answers it; whatever is wrong with it is an answer too.
pub async fn answer(ledger: &Ledger, name: &str, body: &[u8], transport: Transport) -> Reply {
    answer_to(ledger, name, body, transport, None).await
}

/// The same; long work is answered once more when it has ended.
pub async fn answer_to(
    ledger: &Ledger,
    name: &str,
    body: &[u8],
    transport: Transport,
    reply_to: Option<ReplyTo>,
) -> Reply {
    let envelope = Envelope { name: Some(name), id: None, minted_id: mint(), transport, now: ledger.now() };
    ledger.command_from(body, &envelope, reply_to).await
}

/// Answers a request that does not reach the ledger, because the way it came is wrong.
pub fn refuse(ledger: &Ledger, name: &str, salutation: &Salutation, refusal: Refusal) -> Reply {
    let id = salutation.command_id.clone().unwrap_or_else(mint);
    let mut reply = Reply::rejected(id, name, &ledger.identity().station, ledger.now(), refusal);
    reply.correlation_id.clone_from(&salutation.correlation_id);
    reply
}

/// The bytes of a reply, the same on every bus.
pub fn bytes(reply: &Reply) -> Bytes {
    serde_json::to_vec(reply).expect("a reply is plain JSON").into()
}

/// An id for a request that brought none.
fn mint() -> CommandId {
    Uuid::now_v7().to_string().parse().expect("36 hexadecimal digits and dashes are a command id")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minted_id_is_a_command_id_and_never_the_same() {
        assert_ne!(mint(), mint());
    }
}
