//! One switch, asked by SNMP: with a time-out, retries, and a fresh socket after each failure, so that a late answer
//! never passes for another's.

use std::io;
use std::time::Duration;

use snmp2::v3::{Auth, AuthErrorKind, AuthProtocol, Cipher, Security};
use snmp2::{AsyncSession, Pdu};
use tokio::time::timeout;

use crate::switches::oid::Oid;

/// How a switch is reached.
#[derive(Clone, PartialEq, Eq)]
pub struct Access {
    /// `host:port`
    pub address: String,
    pub login: Login,
    /// For one answer.
    pub timeout: Duration,
    /// After the first try.
    pub retries: u32,
}

/// Secrets stay inside: it prints as its kind alone.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// v2c
    Community(Vec<u8>),
    /// v3
    User { name: String, auth: Option<(AuthProtocol, Vec<u8>)>, privacy: Option<(Cipher, Vec<u8>)> },
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Community(_) => f.write_str("v2c"),
            Self::User { name, .. } => write!(f, "v3 {name}"),
        }
    }
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?}", self.address, self.login)
    }
}

/// A value that a switch has given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Number(i64),
    Text(Vec<u8>),
    /// There is no such object or row.
    Nothing,
    /// The end of all tables.
    End,
    /// Of a type that is asked for nowhere.
    Other,
}

pub type Row = (Oid, Value);

/// What is asked.
#[derive(Clone, Copy, Debug)]
enum Question<'a> {
    Get(&'a [Oid]),
    Next(&'a [u64]),
    Bulk(&'a [u64], u32),
    Set(&'a [u64], i64),
}

/// Rows of one answer to a bulk question; 40 fit into one Ethernet frame.
const BULK: u32 = 40;
/// A table longer than this is not read to its end.
pub const LONGEST_WALK: usize = 50_000;

pub struct Client {
    access: Access,
    session: Option<Box<AsyncSession>>,
    /// Packets sent so far.
    packets: u64,
    next_id: i32,
}

impl Client {
    pub fn new(access: Access) -> Self {
        // Ids of an earlier run are not met again soon.
        let next_id = i32::from_be_bytes([0, 1, 0, 1]) ^ i32::try_from(std::process::id() & 0x7fff).unwrap_or(0);
        Self { access, session: None, packets: 0, next_id }
    }

    pub const fn packets(&self) -> u64 {
        self.packets
    }

    /// The values of these rows, in their order.
    pub async fn get(&mut self, rows: &[Oid]) -> Result<Vec<Value>, Fault> {
        let answered = self.ask(Question::Get(rows)).await?;
        let same = answered.len() == rows.len() && answered.iter().zip(rows).all(|((name, _), row)| name == row);
        if !same {
            return Err(self.fault(Why::Malformed("it answers for other rows than were asked".to_owned())));
        }
        Ok(answered.into_iter().map(|(_, value)| value).collect())
    }

    pub async fn get_one(&mut self, row: Oid) -> Result<Value, Fault> {
        Ok(self.get(std::slice::from_ref(&row)).await?.pop().unwrap_or(Value::Nothing))
    }

    /// The row after this name; none at the end.
    pub async fn next(&mut self, after: &[u64]) -> Result<Option<Row>, Fault> {
        let row = self.ask(Question::Next(after)).await?.into_iter().next();
        Ok(row.filter(|(name, value)| *value != Value::End && name.as_slice() > after))
    }

    /// Every row of a table, in order.
    pub async fn walk(&mut self, table: &[u64]) -> Result<Vec<Row>, Fault> {
        let mut rows: Vec<Row> = Vec::new();
        let mut after = table.to_vec();
        loop {
            let batch = self.ask(Question::Bulk(&after, BULK)).await?;
            if batch.is_empty() {
                return Ok(rows);
            }
            for (name, value) in batch {
                // A switch that goes in circles would be read for ever.
                if value == Value::End || !name.starts_with(table) || name <= after {
                    return Ok(rows);
                }
                after.clone_from(&name);
                rows.push((name, value));
                if rows.len() >= LONGEST_WALK {
                    return Err(self.fault(Why::TooLong));
                }
            }
        }
    }

    /// Writes a number and reads it back.
    pub async fn set(&mut self, row: &[u64], value: i64) -> Result<(), Fault> {
        self.ask(Question::Set(row, value)).await?;
        match self.get_one(row.to_vec()).await? {
            Value::Number(now) if now == value => Ok(()),
            other => Err(self.fault(Why::Malformed(format!("it took {value} and holds {other:?}")))),
        }
    }

    async fn ask(&mut self, question: Question<'_>) -> Result<Vec<Row>, Fault> {
        let mut why = Why::NoAnswer;
        for _ in 0..=self.access.retries {
            let limit = self.access.timeout;
            why = match timeout(limit, Box::pin(self.attempt(question))).await {
                Ok(Ok(rows)) => return Ok(rows),
                Ok(Err(why)) if why.is_final() => {
                    self.session = None;
                    return Err(self.fault(why));
                }
                Ok(Err(other)) => other,
                // The more telling of two: a wrong answer, then none.
                Err(_) if why != Why::NoAnswer => why,
                Err(_) => Why::NoAnswer,
            };
            self.session = None;
        }
        Err(self.fault(why))
    }

    async fn attempt(&mut self, question: Question<'_>) -> Result<Vec<Row>, Why> {
        if self.session.is_none() {
            self.session = Some(self.open().await?);
        }
        let mut rows = self.put(question).await;
        // The engine's clock was learnt: the same question again.
        if matches!(rows, Err(Why::Again)) {
            rows = self.put(question).await;
        }
        rows
    }

    async fn open(&mut self) -> Result<Box<AsyncSession>, Why> {
        let (address, id) = (self.access.address.as_str(), self.next_id);
        self.next_id = self.next_id.wrapping_add(1000) & i32::MAX;
        let mut session = match &self.access.login {
            Login::Community(community) => AsyncSession::new_v2c(address, community, id).await?,
            Login::User { name, auth, privacy } => {
                let (protocol, password) = auth.clone().unwrap_or((AuthProtocol::Sha1, Vec::new()));
                let level = match (auth, privacy) {
                    (None, _) => Auth::NoAuthNoPriv,
                    (Some(_), None) => Auth::AuthNoPriv,
                    (Some(_), Some((cipher, secret))) => {
                        Auth::AuthPriv { cipher: *cipher, privacy_password: secret.clone() }
                    }
                };
                let security = Security::new(name.as_bytes(), &password).with_auth_protocol(protocol).with_auth(level);
                AsyncSession::new_v3(address, id, security).await?
            }
        };
        if matches!(self.access.login, Login::User { .. }) {
            self.packets += 1;
        }
        session.init().await?;
        Ok(Box::new(session))
    }

    async fn put(&mut self, question: Question<'_>) -> Result<Vec<Row>, Why> {
        let Some(session) = &mut self.session else { return Err(Why::NoAnswer) };
        self.packets += 1;
        let answer = match question {
            Question::Get(rows) => {
                let names = rows.iter().map(|row| name(row)).collect::<Result<Vec<_>, _>>()?;
                session.get_many(&names.iter().collect::<Vec<_>>()).await?
            }
            Question::Next(after) => session.getnext(&name(after)?).await?,
            Question::Bulk(after, count) => session.getbulk(&[&name(after)?], 0, count).await?,
            Question::Set(row, value) => session.set(&[(&name(row)?, snmp2::Value::Integer(value))]).await?,
        };
        rows(&answer)
    }

    fn fault(&self, why: Why) -> Fault {
        Fault { address: self.access.address.clone(), tries: self.access.retries + 1, why }
    }
}

fn name(oid: &[u64]) -> Result<snmp2::Oid<'static>, Why> {
    snmp2::Oid::from(oid).map_err(|_| Why::Malformed(format!("{oid:?} is no object name")))
}

fn rows(answer: &Pdu<'_>) -> Result<Vec<Row>, Why> {
    match answer.error_status {
        0 => {}
        6 | 16 | 17 | 4 => return Err(Why::Forbidden),
        2 => return Ok(Vec::new()),
        status => return Err(Why::Status(status)),
    }
    if answer.message_type != snmp2::MessageType::Response {
        return Err(Why::Malformed(format!("it answers with {:?}", answer.message_type)));
    }
    let named = answer.varbinds.clone().map(|(name, value)| {
        let name: Oid = name.iter().ok_or_else(|| Why::Malformed("a row's name is too long".to_owned()))?.collect();
        Ok((name, owned(&value)))
    });
    named.collect()
}

fn owned(value: &snmp2::Value<'_>) -> Value {
    match value {
        snmp2::Value::Integer(number) => Value::Number(*number),
        snmp2::Value::Unsigned32(number) | snmp2::Value::Counter32(number) | snmp2::Value::Timeticks(number) => {
            Value::Number(i64::from(*number))
        }
        snmp2::Value::OctetString(text) => Value::Text(text.to_vec()),
        snmp2::Value::NoSuchObject | snmp2::Value::NoSuchInstance | snmp2::Value::Null => Value::Nothing,
        snmp2::Value::EndOfMibView => Value::End,
        _ => Value::Other,
    }
}

/// Why a switch was of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the switch at {address} {why}{}", .why.advice(*.tries))]
pub struct Fault {
    pub address: String,
    tries: u32,
    pub why: Why,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    #[error("does not answer")]
    NoAnswer,
    #[error("refuses the login")]
    Login,
    #[error("does not let this login do that")]
    Forbidden,
    #[error("answers with SNMP error {0}")]
    Status(u32),
    #[error("answers what cannot be used: {0}")]
    Malformed(String),
    #[error("answers for another request")]
    Foreign,
    #[error("has a table of more than {LONGEST_WALK} rows")]
    TooLong,
    #[error("wants the question again")]
    Again,
}

impl Why {
    /// Another try would be answered the same.
    const fn is_final(&self) -> bool {
        matches!(self, Self::Login | Self::Forbidden | Self::Status(_) | Self::TooLong)
    }

    fn advice(&self, tries: u32) -> String {
        match self {
            Self::NoAnswer => {
                format!(" ({tries} tries): look at its address, and whether this community or user may read there")
            }
            Self::Login => ": look at user, passwords and protocols".to_owned(),
            Self::Forbidden => ": it must be allowed to read BRIDGE-MIB and IF-MIB, and to write for power".to_owned(),
            _ => String::new(),
        }
    }
}

impl From<io::Error> for Why {
    fn from(error: io::Error) -> Self {
        Self::Unreachable(error.to_string())
    }
}

impl From<snmp2::Error> for Why {
    fn from(error: snmp2::Error) -> Self {
        match error {
            snmp2::Error::AuthUpdated => Self::Again,
            // A clock that ran away is learnt anew with a fresh session.
            snmp2::Error::AuthFailure(AuthErrorKind::EngineTimeMismatch | AuthErrorKind::EngineBootsMismatch) => {
                Self::NoAnswer
            }
            snmp2::Error::AuthFailure(_) | snmp2::Error::Crypto(_) => Self::Login,
            snmp2::Error::RequestIdMismatch => Self::Foreign,
            snmp2::Error::Send | snmp2::Error::Receive => Self::Unreachable("nobody listens there".to_owned()),
            other => Self::Malformed(other.to_string()),
        }
    }
}
