//! What goes over the wire: the protobuf of Sparkplug B 3.0, of which an edge node without templates and data sets needs
//! these fields. Pure.

use prost::Message;

/// `org.eclipse.tahu.protobuf.Payload`
#[derive(Clone, PartialEq, Message)]
pub struct Payload {
    /// Milliseconds since 1970.
    #[prost(uint64, optional, tag = "1")]
    pub timestamp: Option<u64>,
    #[prost(message, repeated, tag = "2")]
    pub metrics: Vec<Metric>,
    /// 0 to 255, then 0 again; a death has none.
    #[prost(uint64, optional, tag = "3")]
    pub seq: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Metric {
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    #[prost(uint64, optional, tag = "3")]
    pub timestamp: Option<u64>,
    #[prost(uint32, optional, tag = "4")]
    pub datatype: Option<u32>,
    #[prost(bool, optional, tag = "7")]
    pub is_null: Option<bool>,
    #[prost(oneof = "Value", tags = "10, 11, 12, 13, 14, 15")]
    pub value: Option<Value>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Value {
    #[prost(uint32, tag = "10")]
    Int(u32),
    #[prost(uint64, tag = "11")]
    Long(u64),
    #[prost(float, tag = "12")]
    Float(f32),
    #[prost(double, tag = "13")]
    Double(f64),
    #[prost(bool, tag = "14")]
    Boolean(bool),
    #[prost(string, tag = "15")]
    Text(String),
}

/// The data types that we publish, by their numbers in the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataType {
    Int64 = 4,
    UInt64 = 8,
    Double = 10,
    Boolean = 11,
    Text = 12,
}

/// A value with its type; nothing where it is not known yet.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    Signed(u64),
    Count(u64),
    Share(f64),
    Flag(bool),
    Text(Option<String>),
}

impl Reading {
    pub fn metric(&self, name: &str, at: u64) -> Metric {
        let (datatype, value) = match self {
            Self::Signed(number) => (DataType::Int64, Some(Value::Long(*number))),
            Self::Count(number) => (DataType::UInt64, Some(Value::Long(*number))),
            Self::Share(share) => (DataType::Double, Some(Value::Double(*share))),
            Self::Flag(flag) => (DataType::Boolean, Some(Value::Boolean(*flag))),
            Self::Text(text) => (DataType::Text, text.clone().map(Value::Text)),
        };
        Metric {
            name: Some(name.to_owned()),
            timestamp: Some(at),
            datatype: Some(datatype as u32),
            is_null: value.is_none().then_some(true),
            value,
        }
    }
}
