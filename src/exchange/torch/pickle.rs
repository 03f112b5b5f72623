//! The part of Python's pickle format that state dicts are written in, read without running anything.
//!
//! A pickle is a program for a small stack machine, which can call any function that it names. Here it can call four, none of which
//! exists: what they would make is noted. Everything else is refused by its name. Each instruction adds at most one value, of bounded size,
//! and the number of values that are kept is bounded, so that memory and time are proportional to the bytes of the pickle.

// Reads untrusted bytes.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use crate::dtype::Dtype;
use crate::format::limits::{NAME_BYTES_MAX, RANK_MAX};
use std::collections::{BTreeMap, HashMap};

/// How many values of a kind a pickle of any size may keep, and one more for so many of its bytes. A tensor takes about ten values and a
/// hundred bytes.
const VALUES_FREE: usize = 1 << 10;
const BYTES_A_VALUE: usize = 4;
/// The longest header of a safetensors file that is read, in bytes.
const HEADER_BYTES_MAX: usize = 100_000_000;
/// What an entry of such a header takes without its name and its shape, in bytes: `"":{"dtype":"F32","shape":[],"data_offsets":[0,0]},`.
const ENTRY_BYTES: usize = 48;
/// As many sizes and strides take as much memory as another value.
const SIZES_A_VALUE: usize = 4;
/// The longest name of a storage. torch numbers them.
const KEY_BYTES_MAX: usize = 64;

/// A tensor, as the pickle describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct View {
    pub dtype: Dtype,
    /// The name of the storage's file.
    pub key: String,
    /// Elements of the storage.
    pub stored: u64,
    /// The first element.
    pub offset: u64,
    pub shape: Vec<u64>,
    pub strides: Vec<u64>,
}

/// Why a pickle is not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is damaged, or was made by hand.
    Malformed(String),
    /// It is well formed, and holds or does something that no state dict does.
    Unsuited(String),
}

/// What an allowed name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(Dtype),
}

/// Names that a pickle may use: all that torch writes for a dictionary of tensors.
const GLOBALS: &[(&str, &str, Global)] = &[
    ("collections", "OrderedDict", Global::OrderedDict),
    ("torch._utils", "_rebuild_tensor_v2", Global::RebuildTensor),
    ("torch._utils", "_rebuild_parameter", Global::RebuildParameter),
    ("torch", "FloatStorage", Global::Storage(Dtype::F32)),
    ("torch", "DoubleStorage", Global::Storage(Dtype::F64)),
    ("torch", "HalfStorage", Global::Storage(Dtype::F16)),
    ("torch", "BFloat16Storage", Global::Storage(Dtype::Bf16)),
    ("torch", "LongStorage", Global::Storage(Dtype::I64)),
    ("torch", "IntStorage", Global::Storage(Dtype::I32)),
    ("torch", "ShortStorage", Global::Storage(Dtype::I16)),
    ("torch", "CharStorage", Global::Storage(Dtype::I8)),
    ("torch", "ByteStorage", Global::Storage(Dtype::U8)),
    ("torch", "BoolStorage", Global::Storage(Dtype::Bool)),
];

/// A value on the stack. Texts and containers are places in [`Machine::objects`], so that values are small.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Value {
    None,
    Bool,
    Int(i64),
    Float,
    Global(Global),
    Object(usize),
}

#[derive(Debug)]
enum Object {
    Text(String),
    Tuple(Vec<Value>),
    List,
    Dict { entries: Vec<(Value, Value)>, is_ordered: bool },
    Storage { dtype: Dtype, key: String, elements: u64 },
    Tensor(View),
}

#[derive(Default)]
struct Machine {
    stack: Vec<Value>,
    /// Lengths of the stack at marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
    objects: Vec<Object>,
    /// Sizes and strides of all tensors.
    sizes: usize,
}

fn malformed<T>(reason: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Malformed(reason.into()))
}

fn unsuited<T>(reason: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Unsuited(reason.into()))
}

/// The tensors of the dictionary in `pickle`, by name.
pub(super) fn tensors(pickle: &[u8]) -> Result<Vec<(String, View)>, Fault> {
    let mut machine = Machine::default();
    let mut bytes = Bytes { rest: pickle, of: pickle.len() };
    let end = loop {
        let at = bytes.at();
        if let Some(end) = machine.step(&mut bytes, at)? {
            break end;
        }
        let most = VALUES_FREE + pickle.len() / BYTES_A_VALUE;
        if machine.values().max(machine.stack.len()).max(machine.memo.len()).max(machine.marks.len()) > most {
            return malformed("its pickle keeps more values than a state dict of its size");
        }
    };
    machine.dictionary(end)
}

impl Machine {
    /// How many values are kept in objects.
    fn values(&self) -> usize {
        self.objects.len() + self.sizes / SIZES_A_VALUE
    }

    /// Carries out the next instruction, which is at byte `at`. Returns the result of the pickle at its end.
    fn step(&mut self, bytes: &mut Bytes<'_>, at: usize) -> Result<Option<Value>, Fault> {
        match bytes.byte()? {
            // PROTO and FRAME say nothing about values.
            0x80 => drop(bytes.byte()?),
            0x95 => drop(bytes.take(8)?),
            b'.' => return self.pop().map(Some),
            b'(' => self.marks.push(self.stack.len()),
            b'N' => self.stack.push(Value::None),
            0x88 | 0x89 => self.stack.push(Value::Bool),
            b'K' => {
                let number = bytes.byte()?.into();
                self.stack.push(Value::Int(number));
            }
            b'M' => {
                let number = u16::from_le_bytes(bytes.array()?).into();
                self.stack.push(Value::Int(number));
            }
            b'J' => {
                let number = i32::from_le_bytes(bytes.array()?).into();
                self.stack.push(Value::Int(number));
            }
            0x8a => {
                let length = bytes.byte()?.into();
                let number = long(bytes.take(length)?)?;
                self.stack.push(Value::Int(number));
            }
            b'G' => {
                bytes.take(8)?;
                self.stack.push(Value::Float);
            }
            // BINUNICODE, SHORT_BINUNICODE; BINSTRING and SHORT_BINSTRING, Python 2's texts.
            b'X' | b'T' => {
                let length = u32::from_le_bytes(bytes.array()?) as usize;
                self.push_text(bytes.take(length)?)?;
            }
            0x8c | b'U' => {
                let length = bytes.byte()?.into();
                self.push_text(bytes.take(length)?)?;
            }
            b')' => self.push(Object::Tuple(Vec::new())),
            0x85 => self.push_tuple_of(1)?,
            0x86 => self.push_tuple_of(2)?,
            0x87 => self.push_tuple_of(3)?,
            b't' => {
                let items = self.pop_marked()?;
                self.push(Object::Tuple(items));
            }
            b']' => self.push(Object::List),
            // What is in a list is in no tensor.
            b'a' => {
                self.pop()?;
                self.top_list()?;
            }
            b'e' => {
                self.pop_marked()?;
                self.top_list()?;
            }
            b'}' => self.push(Object::Dict { entries: Vec::new(), is_ordered: false }),
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.top_dict()?.push((key, value));
            }
            b'u' => {
                let items = self.pop_marked()?;
                let (pairs, rest) = items.as_chunks::<2>();
                if !rest.is_empty() {
                    return malformed("a key has no value");
                }
                self.top_dict()?.extend(pairs.iter().map(|[key, value]| (*key, *value)));
            }
            b'q' => {
                let place = bytes.byte()?.into();
                self.remember(place)?;
            }
            b'r' => {
                let place = u32::from_le_bytes(bytes.array()?);
                self.remember(place)?;
            }
            0x94 => self.remember(self.memo.len() as u32)?,
            b'h' => {
                let place = bytes.byte()?.into();
                self.recall(place)?;
            }
            b'j' => {
                let place = u32::from_le_bytes(bytes.array()?);
                self.recall(place)?;
            }
            b'c' => {
                let (module, name) = (bytes.line()?, bytes.line()?);
                self.push_global(module, name)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (module, name) = (self.text(module)?.to_owned(), self.text(name)?.to_owned());
                self.push_global(&module, &name)?;
            }
            b'Q' => {
                let id = self.pop()?;
                let storage = self.storage(id)?;
                self.push(storage);
            }
            b'R' => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                let made = self.call(function, arguments)?;
                self.stack.push(made);
            }
            b'b' => {
                // The `_metadata` of a module's state dict.
                self.pop()?;
                let target = self.top()?;
                if !matches!(self.object(target), Some(Object::Dict { is_ordered: true, .. })) {
                    return unsuited("it sets attributes of something else than an OrderedDict");
                }
            }
            other => {
                let name = opcode_name(other).map_or_else(|| format!("{other:#04x}"), str::to_owned);
                return unsuited(format!(
                    "its pickle has the instruction {name} at byte {at}, which no state dict has"
                ));
            }
        }
        Ok(None)
    }

    fn push(&mut self, object: Object) {
        self.stack.push(Value::Object(self.objects.len()));
        self.objects.push(object);
    }

    fn push_text(&mut self, text: &[u8]) -> Result<(), Fault> {
        match std::str::from_utf8(text) {
            Ok(text) => self.push(Object::Text(text.to_owned())),
            Err(_) => return malformed("a text is not UTF-8"),
        }
        Ok(())
    }

    fn push_tuple_of(&mut self, length: usize) -> Result<(), Fault> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.len().checked_sub(length).filter(|start| *start >= floor) {
            Some(start) => {
                let items = self.stack.split_off(start);
                self.push(Object::Tuple(items));
                Ok(())
            }
            None => malformed("a tuple has no items"),
        }
    }

    fn push_global(&mut self, module: &str, name: &str) -> Result<(), Fault> {
        match GLOBALS.iter().find(|(m, n, _)| (*m, *n) == (module, name)) {
            Some((.., global)) => {
                self.stack.push(Value::Global(*global));
                Ok(())
            }
            None => unsuited(format!(
                "its pickle uses {module}.{name}, which no state dict of plain tensors needs; nothing was run"
            )),
        }
    }

    fn pop(&mut self) -> Result<Value, Fault> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.pop_if(|_| true) {
            Some(value) if self.stack.len() >= floor => Ok(value),
            _ => malformed("a value is missing"),
        }
    }

    fn pop_marked(&mut self) -> Result<Vec<Value>, Fault> {
        match self.marks.pop().filter(|mark| *mark <= self.stack.len()) {
            Some(mark) => Ok(self.stack.split_off(mark)),
            None => malformed("a mark is missing"),
        }
    }

    fn top(&self) -> Result<Value, Fault> {
        self.stack.last().copied().map_or_else(|| malformed("a value is missing"), Ok)
    }

    fn top_dict(&mut self) -> Result<&mut Vec<(Value, Value)>, Fault> {
        let top = self.top()?;
        let Value::Object(place) = top else { return malformed("items are set of something else than a dictionary") };
        match self.objects.get_mut(place) {
            Some(Object::Dict { entries, .. }) => Ok(entries),
            _ => malformed("items are set of something else than a dictionary"),
        }
    }

    fn top_list(&self) -> Result<(), Fault> {
        match self.object(self.top()?) {
            Some(Object::List) => Ok(()),
            _ => malformed("an item is appended to something else than a list"),
        }
    }

    fn remember(&mut self, place: u32) -> Result<(), Fault> {
        let top = self.top()?;
        self.memo.insert(place, top);
        Ok(())
    }

    fn recall(&mut self, place: u32) -> Result<(), Fault> {
        match self.memo.get(&place) {
            Some(value) => {
                self.stack.push(*value);
                Ok(())
            }
            None => malformed("it uses a value that it has not stored"),
        }
    }

    fn object(&self, value: Value) -> Option<&Object> {
        match value {
            Value::Object(place) => self.objects.get(place),
            _ => None,
        }
    }

    fn text(&self, value: Value) -> Result<&str, Fault> {
        match self.object(value) {
            Some(Object::Text(text)) => Ok(text),
            _ => malformed("a text is something else"),
        }
    }

    fn tuple(&self, value: Value) -> Result<&[Value], Fault> {
        match self.object(value) {
            Some(Object::Tuple(items)) => Ok(items),
            _ => malformed("a tuple is something else"),
        }
    }

    fn sizes(&self, value: Value) -> Result<Vec<u64>, Fault> {
        let size = |value: &Value| size(*value);
        match self.tuple(value)? {
            sizes if sizes.len() as u64 <= RANK_MAX => sizes.iter().map(size).collect(),
            sizes => malformed(format!("a tensor has {} dimensions, more than {RANK_MAX}", sizes.len())),
        }
    }

    /// A storage that is elsewhere in the file: `("storage", FloatStorage, "0", "cpu", 12)`.
    fn storage(&self, id: Value) -> Result<Object, Fault> {
        match *self.tuple(id)? {
            [kind, Value::Global(Global::Storage(dtype)), key, _, elements] if self.text(kind)? == "storage" => {
                match self.text(key)? {
                    key if key.len() <= KEY_BYTES_MAX => {
                        Ok(Object::Storage { dtype, key: key.to_owned(), elements: size(elements)? })
                    }
                    _ => malformed("a storage has an overlong name"),
                }
            }
            _ => malformed("a reference is not to a storage of numbers"),
        }
    }

    fn call(&mut self, function: Value, arguments: Value) -> Result<Value, Fault> {
        let Value::Global(function) = function else { return malformed("something is called that is no function") };
        let arguments = self.tuple(arguments)?;
        let made = match (function, arguments) {
            (Global::OrderedDict, []) => Object::Dict { entries: Vec::new(), is_ordered: true },
            (Global::RebuildTensor, [storage, offset, shape, strides, _, _, rest @ ..]) => {
                // The last one says that the numbers are negated or conjugated when they are read.
                let is_plain = |value: &Value| match self.object(*value) {
                    Some(Object::Dict { entries, .. }) => entries.is_empty(),
                    _ => *value == Value::None,
                };
                if rest.len() > 1 || !rest.iter().all(is_plain) {
                    return unsuited(
                        "a tensor is a view that changes the numbers it is stored with (negated, conjugated)",
                    );
                }
                let Some(Object::Storage { dtype, key, elements }) = self.object(*storage) else {
                    return malformed("a tensor has no storage");
                };
                Object::Tensor(View {
                    dtype: *dtype,
                    key: key.clone(),
                    stored: *elements,
                    offset: size(*offset)?,
                    shape: self.sizes(*shape)?,
                    strides: self.sizes(*strides)?,
                })
            }
            (Global::RebuildParameter, [tensor, _, _]) => {
                return match self.object(*tensor) {
                    Some(Object::Tensor(_)) => Ok(*tensor),
                    _ => malformed("a parameter is no tensor"),
                };
            }
            _ => return malformed("a function is called with other arguments than torch writes"),
        };
        if let Object::Tensor(view) = &made {
            self.sizes += view.shape.len() + view.strides.len();
        }
        self.objects.push(made);
        Ok(Value::Object(self.objects.len() - 1))
    }

    /// The tensors of the dictionary `end`.
    fn dictionary(&self, end: Value) -> Result<Vec<(String, View)>, Fault> {
        let Some(Object::Dict { entries, .. }) = self.object(end) else {
            let kind = self.kind(end);
            return unsuited(format!("it holds {kind} and not a dictionary of tensors"));
        };
        let (mut tensors, mut header_bytes) = (BTreeMap::new(), 0);
        for (key, value) in entries {
            let Some(Object::Text(key)) = self.object(*key) else {
                return unsuited("a key of its dictionary is not a text");
            };
            match self.object(*value) {
                Some(Object::Tensor(view)) => match key.len() as u64 {
                    _ if key == "__metadata__" => {
                        return unsuited(
                            "a tensor is called \"__metadata__\", which no tensor of a safetensors file can be",
                        );
                    }
                    1..=NAME_BYTES_MAX if !tensors.contains_key(key) => {
                        // What each takes in the header of a safetensors file, at least.
                        header_bytes += ENTRY_BYTES + key.len() + 2 * view.shape.len();
                        if header_bytes > HEADER_BYTES_MAX {
                            return unsuited("its tensors are more than the header of a safetensors file can list");
                        }
                        tensors.insert(key.clone(), view.clone());
                    }
                    1..=NAME_BYTES_MAX => return malformed(format!("{key:?} is in its dictionary twice")),
                    _ => return malformed("a tensor has an empty or overlong name"),
                },
                _ => {
                    let kind = self.kind(*value);
                    return unsuited(format!("{key:?} is {kind} and not a tensor"));
                }
            }
        }
        Ok(tensors.into_iter().collect())
    }

    /// What a value is, for people.
    fn kind(&self, value: Value) -> &'static str {
        match (value, self.object(value)) {
            (_, Some(Object::Text(_))) => "a text",
            (_, Some(Object::Tuple(_))) => "a tuple",
            (_, Some(Object::List)) => "a list",
            (_, Some(Object::Dict { .. })) => "a dictionary",
            (_, Some(Object::Storage { .. })) => "a storage",
            (_, Some(Object::Tensor(_))) => "a tensor",
            (Value::None, _) => "None",
            (Value::Int(_) | Value::Float, _) => "a number",
            (Value::Bool, _) => "True or False",
            _ => "a function",
        }
    }
}

fn size(value: Value) -> Result<u64, Fault> {
    match value {
        Value::Int(number) => u64::try_from(number).or_else(|_| malformed(format!("a size is {number}"))),
        _ => malformed("a size is not a whole number"),
    }
}

/// A whole number in two's complement of any length.
fn long(bytes: &[u8]) -> Result<i64, Fault> {
    let negative = bytes.last().is_some_and(|last| last & 0x80 != 0);
    let mut all = [if negative { 0xff } else { 0 }; 8];
    match all.get_mut(..bytes.len()) {
        Some(front) => front.copy_from_slice(bytes),
        None => return malformed("a whole number has more than 64 bits"),
    }
    Ok(i64::from_le_bytes(all))
}

/// Names of instructions that a harmful or an unusual pickle has.
fn opcode_name(opcode: u8) -> Option<&'static str> {
    Some(match opcode {
        b'i' => "INST",
        b'o' => "OBJ",
        0x81 => "NEWOBJ",
        0x92 => "NEWOBJ_EX",
        0x82..=0x84 => "EXT",
        b'P' => "PERSID",
        b'0' => "POP",
        b'1' => "POP_MARK",
        b'2' => "DUP",
        b'd' => "DICT",
        b'l' => "LIST",
        b'B' | b'C' | 0x8e => "BINBYTES",
        0x8d => "BINUNICODE8",
        0x8f => "EMPTY_SET",
        0x90 => "ADDITEMS",
        0x91 => "FROZENSET",
        0x8b => "LONG4",
        0x96 => "BYTEARRAY8",
        b'I' => "INT",
        b'L' => "LONG",
        b'F' => "FLOAT",
        b'S' => "STRING",
        b'V' => "UNICODE",
        b'p' => "PUT",
        b'g' => "GET",
        _ => return None,
    })
}

/// The rest of a pickle.
struct Bytes<'a> {
    rest: &'a [u8],
    of: usize,
}

impl<'a> Bytes<'a> {
    /// How many bytes were taken.
    fn at(&self) -> usize {
        self.of - self.rest.len()
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Fault> {
        match self.rest.split_at_checked(length) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => malformed("its pickle ends too early"),
        }
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        match self.take(N)?.first_chunk() {
            Some(bytes) => Ok(*bytes),
            None => malformed("its pickle ends too early"),
        }
    }

    /// The text up to the end of the line.
    fn line(&mut self) -> Result<&'a str, Fault> {
        let Some(length) = self.rest.iter().position(|byte| *byte == b'\n') else {
            return malformed("its pickle ends too early");
        };
        let line = self.take(length)?;
        self.byte()?;
        std::str::from_utf8(line).or_else(|_| malformed("a name is not UTF-8"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENSOR: &[u8] = b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nHalfStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x06tQK\x01K\x02K\x02\x86K\x02K\x01\x86\x89NtR";

    fn of(entries: &[&[u8]]) -> Vec<u8> {
        [&b"\x80\x02}("[..], &entries.concat(), b"u."].concat()
    }

    fn refused(pickle: &[u8]) -> String {
        match tensors(pickle) {
            Err(Fault::Malformed(reason) | Fault::Unsuited(reason)) => reason,
            Ok(tensors) => panic!("{tensors:?}"),
        }
    }

    #[test]
    fn a_negated_view_and_a_name_that_no_tensor_has_are_refused() {
        // The arguments of TENSOR, and a last one: {"neg": True}, or nothing.
        let (front, end) = TENSOR.split_at(TENSOR.len() - 2);
        let with = |last: &[u8]| of(&[&[b"X\x01\0\0\0w", front, last, end].concat()]);
        assert!(refused(&with(b"}X\x03\0\0\0neg\x88s")).contains("negated"));
        assert!(refused(&with(b"NN")).contains("negated"));
        assert_eq!(tensors(&with(b"N")), tensors(&of(&[&[b"X\x01\0\0\0w", TENSOR].concat()])));
        assert_eq!(tensors(&with(b"}")), tensors(&with(b"N")));
        assert!(refused(&of(&[&[b"X\x0c\0\0\0__metadata__", TENSOR].concat()])).contains("__metadata__"));
    }

    #[test]
    fn a_tensor_is_what_its_arguments_say() {
        let view = View {
            dtype: Dtype::F16,
            key: "0".to_owned(),
            stored: 6,
            offset: 1,
            shape: vec![2, 2],
            strides: vec![2, 1],
        };
        let entry = [b"X\x01\0\0\0w", TENSOR].concat();
        assert_eq!(tensors(&of(&[&entry])), Ok(vec![("w".to_owned(), view)]));
        assert_eq!(tensors(b"\x80\x02}."), Ok(Vec::new()));
    }

    #[test]
    fn what_would_run_something_is_refused_by_its_name() {
        let cases: [(&[u8], &str); 9] = [
            (b"cos\nsystem\n(X\x02\0\0\0lstR.", "uses os.system"),
            (b"c__builtin__\neval\n.", "uses __builtin__.eval"),
            (b"ctorch\nload\n.", "uses torch.load"),
            (b"X\x02\0\0\0osX\x06\0\0\0system\x93.", "uses os.system"),
            (b"(ios\nsystem\n.", "INST at byte 1"),
            (b"(cos\nsystem\no.", "uses os.system"),
            (b"ccollections\nOrderedDict\n)\x81.", "NEWOBJ at byte 26"),
            (b"ctorch._utils\n_rebuild_tensor_v3\n.", "_rebuild_tensor_v3"),
            (b"}}b.", "attributes of something else"),
        ];
        for (pickle, says) in cases {
            assert!(refused(pickle).contains(says), "{}", refused(pickle));
        }
    }

    #[test]
    fn malformed_pickles_are_refused() {
        let cases: [&[u8]; 22] = [
            b"",
            b".",
            b"}",
            b"(.",
            b"}(K\x01u.",
            b"}K\x01s.",
            b"K\x01K\x02K\x03s.",
            b"u.",
            b"t.",
            b"\x85.",
            b"(\x85.",
            b"K\x01(\x85.",
            b"h\x00.",
            b"q\x00.",
            b"}X\x05\0\0\0abc",
            b"X\x01\0\0\0\xff.",
            b"\x8a\x09\0\0\0\0\0\0\0\0\x01.",
            b"cos\nsystem",
            b"}R.",
            b")Q.",
            b"ccollections\nOrderedDict\nK\x01\x85R.",
            b"]K\x01K\x02s.",
        ];
        for pickle in cases {
            refused(pickle);
        }
        for end in 0..TENSOR.len() {
            refused(&[b"}X\x01\0\0\0w", &TENSOR[..end]].concat());
        }
        assert!(refused(b"}X\x05\0\0\0epochK\x03s.").contains("\"epoch\" is a number and not a tensor"));
        assert!(refused(b"}K\x01K\x03s.").contains("not a text"));
    }

    #[test]
    fn numbers_are_in_twos_complement() {
        assert_eq!(long(&[]), Ok(0));
        assert_eq!(long(&[0xff]), Ok(-1));
        assert_eq!(long(&[0, 0, 0, 0, 1]), Ok(1 << 32));
    }
}
