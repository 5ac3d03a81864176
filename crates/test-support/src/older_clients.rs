//! Spans as older clients of Jaeger and Zipkin send them, in as much of their formats as one span needs,
//! and gRPC by curl.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::json;

use crate::jaeger::Span;

/// Thrift's two protocols.
#[derive(Clone, Copy, PartialEq)]
pub enum Thrift {
    /// Fixed widths.
    Binary,
    /// Variable widths.
    Compact,
}

/// A value in Thrift. Types and field numbers follow jaeger-idl's jaeger.thrift.
enum Value<'a> {
    I32(i32),
    I64(i64),
    Text(&'a str),
    /// A list of structs.
    List(Vec<Value<'a>>),
    Struct(Vec<(i16, Value<'a>)>),
}

impl Value<'_> {
    /// Returns the number of its type.
    fn kind(&self, thrift: Thrift) -> u8 {
        let (binary, compact) = match self {
            Value::I32(_) => (8, 5),
            Value::I64(_) => (10, 6),
            Value::Text(_) => (11, 8),
            Value::Struct(_) => (12, 12),
            Value::List(_) => (15, 9),
        };
        if thrift == Thrift::Binary { binary } else { compact }
    }

    fn write(&self, thrift: Thrift, bytes: &mut Vec<u8>) {
        match (self, thrift) {
            (Value::I32(value), Thrift::Binary) => bytes.extend(value.to_be_bytes()),
            (Value::I32(value), Thrift::Compact) => varint(zigzag((*value).into()), bytes),
            (Value::I64(value), Thrift::Binary) => bytes.extend(value.to_be_bytes()),
            (Value::I64(value), Thrift::Compact) => varint(zigzag(*value), bytes),
            (Value::Text(text), _) => {
                match thrift {
                    Thrift::Binary => bytes.extend((text.len() as u32).to_be_bytes()),
                    Thrift::Compact => varint(text.len() as u64, bytes),
                }
                bytes.extend(text.as_bytes());
            }
            (Value::List(values), _) => {
                let kind = values[0].kind(thrift);
                match thrift {
                    Thrift::Binary => {
                        bytes.push(kind);
                        bytes.extend((values.len() as u32).to_be_bytes());
                    }
                    // Up to 14 values.
                    Thrift::Compact => bytes.push((values.len() as u8) << 4 | kind),
                }
                values.iter().for_each(|value| value.write(thrift, bytes));
            }
            (Value::Struct(fields), _) => {
                for (number, value) in fields {
                    bytes.push(value.kind(thrift));
                    match thrift {
                        Thrift::Binary => bytes.extend(number.to_be_bytes()),
                        Thrift::Compact => varint(zigzag((*number).into()), bytes),
                    }
                    value.write(thrift, bytes);
                }
                bytes.push(0);
            }
        }
    }
}

fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

fn varint(mut value: u64, bytes: &mut Vec<u8>) {
    while value >= 128 {
        bytes.push(value as u8 | 128);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// Returns Jaeger's `Batch` of one span.
fn batch(span: &Span) -> Value<'_> {
    let id = |text: &str| Value::I64(u64::from_str_radix(text, 16).expect("hexadecimal") as i64);
    let (high, low) = span.trace.split_at(16);
    // The type 0 is text.
    let tag = [(1, Value::Text("letter")), (2, Value::I32(0)), (3, Value::Text(&span.letter))];
    let process = [(1, Value::Text(&span.service))];
    let span = [
        (1, id(low)),
        (2, id(high)),
        (3, id(low)),
        (4, Value::I64(0)),
        (5, Value::Text(&span.operation)),
        (7, Value::I32(1)),
        (8, Value::I64((span.start / 1000) as i64)),
        (9, Value::I64(5_000)),
        (10, Value::List(vec![Value::Struct(tag.into())])),
    ];
    Value::Struct(vec![
        (1, Value::Struct(process.into())),
        (2, Value::List(vec![Value::Struct(span.into())])),
    ])
}

/// Returns the body that clients post to port 14268.
pub fn thrift(span: &Span) -> Vec<u8> {
    let mut bytes = Vec::new();
    batch(span).write(Thrift::Binary, &mut bytes);
    bytes
}

/// Returns the datagram that clients send to an agent: the one-way call `emitBatch`.
pub fn thrift_call(span: &Span, thrift: Thrift) -> Vec<u8> {
    let name = Value::Text("emitBatch");
    let mut bytes = Vec::new();
    // Version 1, a one-way call (4), its name and its number.
    match thrift {
        Thrift::Binary => {
            bytes.extend([0x80, 1, 0, 4]);
            name.write(thrift, &mut bytes);
            bytes.extend([0; 4]);
        }
        Thrift::Compact => {
            bytes.extend([0x82, 4 << 5 | 1, 0]);
            name.write(thrift, &mut bytes);
        }
    }
    Value::Struct(vec![(1, batch(span))]).write(thrift, &mut bytes);
    bytes
}

/// Returns the JSON that clients of Zipkin post to port 9411.
pub fn zipkin(span: &Span) -> String {
    json!([{
        "traceId": span.trace, "id": &span.trace[16..], "name": span.operation,
        "timestamp": span.start / 1000, "duration": 5_000,
        "localEndpoint": {"serviceName": span.service}, "tags": {"letter": span.letter}}])
    .to_string()
}

/// Returns the `PostSpansRequest` that agents sent to port 14250, in protobuf.
pub fn post_spans(span: &Span) -> Vec<u8> {
    let bytes = |text: &str| -> Vec<u8> {
        let pairs = (0..text.len()).step_by(2).map(|at| &text[at..at + 2]);
        pairs.map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal")).collect()
    };
    let mut seconds = vec![1 << 3];
    varint((span.start / 1_000_000_000) as u64, &mut seconds);
    let tag = [field(1, b"letter"), field(3, span.letter.as_bytes())].concat();
    let fields = [
        field(1, &bytes(&span.trace)),
        field(2, &bytes(&span.trace[16..])),
        field(3, span.operation.as_bytes()),
        field(6, &seconds),
        field(8, &tag),
    ];
    let process = field(1, span.service.as_bytes());
    field(1, &[field(1, &fields.concat()), field(2, &process)].concat())
}

/// Returns a field of bytes, text or a message in protobuf.
pub fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    varint(content.len() as u64, &mut bytes);
    bytes.extend(content);
    bytes
}

/// Calls a method by gRPC without TLS and returns the response's message.
///
/// # Panics
/// If there is none.
pub fn grpc(folder: &Path, port: u16, method: &str, message: &[u8]) -> Vec<u8> {
    let file = folder.join("message");
    // Not compressed, its length.
    let mut bytes = vec![0];
    bytes.extend((message.len() as u32).to_be_bytes());
    bytes.extend(message);
    std::fs::write(&file, bytes).expect("written");
    let mut curl = Command::new("curl");
    curl.args([
        "--silent",
        "--show-error",
        "--fail",
        "--http2-prior-knowledge",
        "--max-time",
        "10",
    ]);
    curl.args(["--header", "Content-Type: application/grpc", "--header", "TE: trailers"]);
    curl.arg("--data-binary").arg(format!("@{}", file.display()));
    let Output { status, stdout, stderr } =
        curl.arg(format!("http://127.0.0.1:{port}{method}")).output().expect("curl");
    let words = String::from_utf8_lossy(&stderr);
    assert!(status.success() && stdout.len() >= 5, "{method}: {words}");
    stdout[5..].to_vec()
}
