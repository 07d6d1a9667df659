//! Every call of every service, read from `proto/`, and messages for them: good ones, and each way of being bad.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use prost::encoding::{WireType, encode_key, encode_varint};
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FileDescriptorSet};
use rand::Rng;
use rand::rngs::StdRng;

/// Deeper than any decoder should follow.
const DEPTH: usize = 100_000;
/// Longer than any field of ours.
const LONG: usize = 100_000;

/// One call of a service.
#[derive(Clone, Debug)]
pub struct Method {
    /// e.g. `fairlead.dsp.v1.CatalogService`.
    pub service: String,
    /// e.g. `RequestCatalog`.
    pub name: String,
    /// Full name of the request's type.
    input: String,
}

impl Method {
    /// The path of the call.
    pub fn path(&self) -> String {
        format!("/{}/{}", self.service, self.name)
    }
}

/// What `proto/` says.
pub struct Contract {
    /// Every call.
    pub methods: Vec<Method>,
    types: BTreeMap<String, DescriptorProto>,
}

impl Contract {
    /// Reads every file below `proto/`.
    pub fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("proto");
        let mut files = Vec::new();
        collect(&root, &mut files);
        let set: FileDescriptorSet = protox::compile(&files, [&root]).expect("the contract compiles");
        let (mut methods, mut types) = (Vec::new(), BTreeMap::new());
        for file in set.file {
            let package = file.package().to_owned();
            for service in &file.service {
                methods.extend(service.method.iter().map(|method| Method {
                    service: format!("{package}.{}", service.name()),
                    name: method.name().to_owned(),
                    input: method.input_type().to_owned(),
                }));
            }
            types.extend(
                file.message_type
                    .into_iter()
                    .map(|message| (format!(".{package}.{}", message.name()), message)),
            );
        }
        Self { methods, types }
    }

    /// The calls of a package, e.g. `fairlead.admin.v1`.
    pub fn of<'a>(&'a self, package: &'a str) -> impl Iterator<Item = &'a Method> {
        self.methods
            .iter()
            .filter(move |method| method.service.rsplit_once('.').is_some_and(|(of, _)| of == package))
    }

    /// A request with every field set: texts are `text`, numbers 1.
    pub fn sample(&self, method: &Method, text: &[u8]) -> Vec<u8> {
        self.message(&method.input, text, 0)
    }

    fn message(&self, name: &str, text: &[u8], depth: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let Some(message) = self.types.get(name) else { return bytes };
        let mut set = Vec::new();
        for field in &message.field {
            // One member of a oneof, the first.
            if field.oneof_index.is_some() && !field.proto3_optional() {
                if set.contains(&field.oneof_index) {
                    continue;
                }
                set.push(field.oneof_index);
            }
            let number = u32::try_from(field.number()).expect("a field number");
            match field.r#type() {
                Type::String | Type::Bytes => lengthy(&mut bytes, number, text),
                Type::Message if depth < 4 => {
                    let inner = self.message(field.type_name(), text, depth + 1);
                    lengthy(&mut bytes, number, &inner);
                }
                Type::Message if field.label() == Label::Repeated => {}
                _ => {
                    encode_key(number, WireType::Varint, &mut bytes);
                    encode_varint(1, &mut bytes);
                }
            }
        }
        bytes
    }
}

/// A bad body of a call, with what is bad about it.
pub struct Bad {
    /// For messages.
    pub what: &'static str,
    /// Compression flag of the frame.
    pub flag: u8,
    /// The length that the frame tells; `None` tells the true one.
    pub told: Option<u32>,
    /// The message.
    pub message: Vec<u8>,
    /// Whether no decoder can take it; else it is a well-formed message that says nonsense.
    pub malformed: bool,
}

/// Every way of being bad for one call. `limit` is the largest message that the service takes.
pub fn bad_bodies(contract: &Contract, method: &Method, limit: usize, chance: &mut StdRng) -> Vec<Bad> {
    let sample = contract.sample(method, b"urn:uuid:00000000-0000-4000-8000-000000000000");
    let bad = |what, message| Bad { what, flag: 0, told: None, message, malformed: true };
    let nonsense = |what, message| Bad { what, flag: 0, told: None, message, malformed: false };
    let length = u32::try_from(sample.len()).expect("a sample is small");
    let mut random = vec![0; 512];
    chance.fill(&mut random[..]);
    let mut bodies = vec![
        Bad { told: Some(length + 100), ..bad("a frame that ends early", sample.clone()) },
        Bad { told: Some(u32::MAX), ..bad("a frame that tells 4 GiB", sample.clone()) },
        Bad { flag: 1, ..bad("a frame that tells a compression", sample.clone()) },
        Bad { flag: 9, ..bad("a frame with an unknown flag", sample.clone()) },
        bad("an oversized message", vec![0; limit + 1]),
        bad("deep groups", deep_groups()),
        bad("an endless varint", vec![0xFF; 64]),
        bad("field number zero", vec![0x00, 0x01]),
        bad("a length behind the end", vec![0x0A, 0xFF, 0xFF, 0xFF, 0x7F, b'x']),
        nonsense("random bytes", random),
        nonsense("an empty message", Vec::new()),
        nonsense("a message of nonsense", contract.sample(method, b"nonsense")),
        nonsense("control characters", contract.sample(method, "urn:\u{0}\u{1b}[31m\u{202e}".as_bytes())),
        nonsense("long texts", contract.sample(method, &vec![b'a'; LONG.min(limit / 16)])),
        nonsense("deep JSON", contract.sample(method, &vec![b'['; DEPTH.min(limit / 16)])),
        nonsense("unknown fields", [sample.clone(), unknown_fields()].concat()),
    ];
    if !sample.is_empty() {
        bodies.push(bad("a truncated message", sample[..sample.len() - 1].to_vec()));
        let gbk = contract.sample(method, b"\xCC\xEC\xC6\xF8\xFF");
        let has_text = contract.sample(method, b"") != gbk;
        bodies.push(Bad { malformed: false, ..bad("texts that are not UTF-8", gbk) });
        if has_text {
            bodies.push(Bad { malformed: false, ..bad("texts of another wire type", retyped(&sample)) });
        }
    }
    bodies
}

fn deep_groups() -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..DEPTH {
        encode_key(1_000, WireType::StartGroup, &mut bytes);
    }
    bytes
}

fn unknown_fields() -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in 2_000..2_100 {
        lengthy(&mut bytes, number, b"unknown");
    }
    bytes
}

/// The first field as a number instead of a text.
fn retyped(sample: &[u8]) -> Vec<u8> {
    let mut bytes = vec![sample[0] & !0x07];
    encode_varint(7, &mut bytes);
    bytes
}

fn lengthy(bytes: &mut Vec<u8>, number: u32, value: &[u8]) {
    encode_key(number, WireType::LengthDelimited, bytes);
    encode_varint(value.len() as u64, bytes);
    bytes.extend_from_slice(value);
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    files.sort();
}
