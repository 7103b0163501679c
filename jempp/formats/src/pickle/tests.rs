use super::node::{Node, Parts};
use super::*;
use std::path::Path;

fn file(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pickle").join(name)).unwrap()
}

fn fault(bytes: &[u8]) -> Fault {
    Pickle::read(bytes).err().unwrap()
}

/// Like Python's `repr`, for the pickles that `tests/pickles.py` wrote. Does not terminate on cyclic pickles.
fn repr(item: Item<'_>) -> String {
    let row = |items: Items<'_>| items.iter().map(repr).collect::<Vec<_>>().join(",");
    match item.value() {
        Value::None => "None".into(),
        Value::Bool(b) => b.to_string(),
        Value::Int(i) => i.to_string(),
        Value::Long(b) => format!("long{b:?}"),
        Value::Float(x) => format!("{x:e}"),
        Value::Str(s) => format!("{s:?}"),
        Value::Bytes(b) => format!("b{b:?}"),
        Value::List(i) => format!("[{}]", row(i)),
        Value::Tuple(i) => format!("({})", row(i)),
        Value::Set(i) => format!("{{{}}}", row(i)),
        Value::Dict(p) => format!("{{{}}}", pairs(p)),
        Value::Global { module, name } => format!("<{module}.{name}>"),
        Value::Object(o) => {
            let (callable, args) = (repr(o.callable()), repr(o.args()));
            format!("{callable}{args}{:?}[{}]{{{}}}", o.state(), row(o.items()), pairs(o.pairs()))
        }
        Value::Persistent(i) => format!("persistent {}", repr(i)),
    }
}

fn pairs(pairs: Pairs<'_>) -> String {
    pairs.iter().map(|(k, v)| format!("{}:{}", repr(k), repr(v))).collect::<Vec<_>>().join(",")
}

#[test]
fn all_protocols_decode_alike() {
    for protocol in 0..6 {
        let bytes = file(&format!("values-{protocol}.pkl"));
        let pickle = Pickle::read(&bytes).unwrap();
        assert_eq!(pickle.length(), bytes.len());
        let Value::Dict(all) = pickle.root().value() else { panic!() };
        let get = |key: &str| all.get(key).unwrap();
        let is = |key: &str, text: &str| assert_eq!(repr(get(key)), text, "{key}, protocol {protocol}");
        is("none", "None");
        is("bools", "(true,false)");
        is("floats", "[0e0,-1.5e0,1e300,inf]");
        is("text", "\"Zürich \u{1f600} \\\\u \\n 'x'\"");
        is("tuples", "((),(1),(1,2),(1,2,3),(1,2,3,4))");
        is("class", "<collections.OrderedDict>");
        let Value::List(ints) = get("ints").value() else { panic!() };
        let small = [0, 1, -1, 255, 65535, -(1 << 31), 1 << 40, i64::MAX, i64::MIN];
        assert!(ints.iter().take(9).map(|i| i.as_int().unwrap()).eq(small));
        let wide = |i: usize| match ints.get(i).unwrap().value() {
            Value::Long(b) => {
                let mut all = [if b[b.len() - 1] >= 128 { 0xff } else { 0 }; 16];
                all[..b.len()].copy_from_slice(b);
                i128::from_le_bytes(all)
            }
            other => panic!("{other:?}"),
        };
        assert_eq!((wide(9), wide(10)), (1 << 63, -(1 << 100)));
        assert!(get("bytes").as_bytes().unwrap().iter().copied().eq(0..=255));
        assert_eq!(get("array").as_bytes().is_some(), protocol > 2, "a bytearray of text until 3");
        let empty = get("empty").as_items().unwrap();
        assert!(empty.get(0).unwrap().as_bytes().unwrap().is_empty());
        assert_eq!((empty.len(), repr(empty.get(4).unwrap()).as_str()), (7, "{}"));
        assert!(get("long").as_items().unwrap().iter().map(|i| i.as_int().unwrap()).eq(0..2000));
        assert_eq!(pairs(get("ordered").as_pairs().unwrap()), "\"b\":1,\"a\":2");
        let complex =
            get("complex").call("builtins", "complex").or(get("complex").call("__builtin__", "complex"));
        assert_eq!(complex.unwrap().get(1).unwrap().kind(), "a float");
        let set = if protocol > 3 { "{7}" } else { "([7])" };
        assert!(repr(get("set")).contains(set) && repr(get("frozen")).contains('8'));
    }
}

#[test]
fn opcodes_that_modern_python_does_not_write() {
    let is = |bytes: &[u8], text: &str| assert_eq!(repr(Pickle::read(bytes).unwrap().root()), text);
    is(b"S'a\\x41\\101\\n\\q\\''\n.", "b[97, 65, 65, 10, 92, 113, 39]");
    is(b"V\\ud83d\\ude00\\U0001f600\n.", "\"\u{1f600}\u{1f600}\"");
    is(b"(lp0\nI1\naI01\na.", "[1,true]");
    is(b"(dp0\nS'k'\nL7L\ns.", "{b[107]:7}");
    is(b"(I1\nI2\ni__main__\nA\n.", "<__main__.A>(1,2)None[]{}");
    is(b"(cm\nA\nNo.", "<m.A>(None)None[]{}");
    is(b"P12\n.", "persistent \"12\"");
    is(b"\x8a\x02\x00\xffQ.", "persistent -256");
    is(b"cm\nA\n)}\x92.", "<m.A>()None[]{}");
    is(b"cm\nA\n)\x81Nb.", "<m.A>()Some(None)[]{}");
    is(b"(I1\nI2\n0t.", "(1)");
    is(b"N(I1\n1.", "None");
    is(b"\x80\x04N\x940Kar\x00\x00\x01\x000(h\x00j\x00\x00\x01\x00t.", "(None,97)");
}

#[test]
fn several_in_a_row_and_what_they_contain() {
    let bytes = b"K\x01.K\x02.";
    let first = Pickle::read(bytes).unwrap();
    assert_eq!((first.root().as_int(), first.length()), (Some(1), 3));
    let second = Pickle::read(&bytes[first.length()..]).unwrap();
    assert_eq!(second.root().as_int(), Some(2));
    // A list that contains itself is stored once and can be followed to any depth.
    let own = Pickle::read(b"]\x94h\x00a.").unwrap();
    let inner = own.root().as_items().unwrap().get(0).unwrap();
    assert_eq!(inner.as_items().unwrap().len(), 1);
}

#[test]
fn calls_are_data() {
    let pickle = Pickle::read(b"cos\nsystem\n(S'echo boo'\ntR.").unwrap();
    assert_eq!(pickle.root().kind(), "a call of os.system");
    assert!(pickle.root().call("os", "system").is_some());
    assert!(pickle.root().as_bytes().is_none() && pickle.root().as_pairs().is_none());
}

#[test]
fn invalid_pickles_are_reported_with_their_offset() {
    for (bytes, offset, why) in [
        (&b""[..], 0, "1 bytes wanted"),
        (b"N", 1, "1 bytes wanted"),
        (b"NX\xff\xff\xff\xff", 1, "4294967295 bytes wanted"),
        (b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff.", 0, "18446744073709551615 bytes wanted"),
        (b"\x80\x06N.", 0, "protocol 6"),
        (b"NN.", 2, "2 objects"),
        (b"N(.", 2, "ends with 1 objects"),
        (b".", 0, "ends with 0 objects"),
        (b"Ns.", 1, "pops an object from an empty stack"),
        (b"N(a.", 2, "pops an object from an empty stack"),
        (b"t.", 0, "a mark that was not set"),
        (b"h\x07.", 0, "memo entry 7 is read before"),
        (b"NNa.", 2, "not a container"),
        (b"](NNu.", 4, "not a container"),
        (b"}(Nu.", 3, "a key without a value"),
        (b"NNR.", 2, "not a tuple"),
        (b"NNb.", 2, "the state of an object that has none"),
        (b"(cm\nA\noNbNb.", 10, "twice"),
        (b"NN\x93.", 2, "not a string"),
        (b"(o.", 1, "without a class"),
        (b"I1x\n.", 0, "cannot be parsed"),
        (b"I1", 0, "a line without a newline"),
        (b"L999999999999999999999999999999999999999999L\n.", 0, "cannot be parsed"),
        (b"S'a\n.", 0, "cannot be parsed"),
        (b"V\\ud83d\n.", 0, "cannot be parsed"),
        (b"X\x01\0\0\0\xff.", 0, "not UTF-8"),
        (b"\x82\x01.", 0, "extension code"),
        (b"\x97.", 0, "not in the file"),
        (b"?", 0, "0x3f is not an instruction"),
    ] {
        let fault = fault(bytes);
        assert!(fault.why.contains(why) && fault.offset == offset, "{:?}: {fault}", bytes.escape_ascii());
    }
}

#[test]
fn memory_per_byte_is_bounded() {
    assert!(size_of::<Node<'_>>() <= 32 && size_of::<Parts>() <= 72);
    // Each list holds the one before 20 times: 20²⁰ elements if they were unfolded.
    let mut bytes = b"]\x94".to_vec();
    for k in 0..20 {
        bytes.extend([b'0', b'('].iter().chain([b'h', k].repeat(20).iter()).chain(b"l\x94"));
    }
    bytes.push(b'.');
    let pickle = Pickle::read(&bytes).unwrap();
    assert_eq!(pickle.nodes.0[0].len(), 4 + 21);
    assert_eq!(pickle.root().as_items().unwrap().len(), 20);
    for unit in [&b"]"[..], b"(", b")\x85", b"N\x94", b"]Na", b"S''\n", b"Np9\n", b"cm\n\n)R"] {
        let all: Vec<u8> = unit.iter().copied().cycle().take(100_000).collect();
        assert!(Pickle::read(&all).is_err());
    }
}

#[test]
fn every_damaged_byte_is_an_error_or_harmless_never_a_panic() {
    for name in ["values-0.pkl", "values-5.pkl", "numpy1-2.pkl", "python2-1.pkl"] {
        let good = file(name);
        for i in 0..good.len().min(1500) {
            assert!(Pickle::read(&good[..i]).is_err());
            for flip in [1, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[i] ^= flip;
                if let Ok(p) = Pickle::read(&bad) {
                    assert!(p.length() <= bad.len());
                }
            }
        }
    }
}

#[test]
fn numpy_arrays_of_every_version_and_protocol() {
    let all = ["numpy2", "numpy1"].into_iter().flat_map(|n| (0..6).map(move |p| format!("{n}-{p}.pkl")));
    for name in all.chain((0..3).map(|p| format!("python2-{p}.pkl"))) {
        let bytes = file(&name);
        let pickle = Pickle::read(&bytes).unwrap();
        let get = |key: &str| pickle.root().as_pairs().unwrap().get(key).unwrap();
        let array = |key: &str| numpy::array(get(key)).unwrap_or_else(|e| panic!("{name}, {key}: {e}"));
        let a = array("u1");
        assert_eq!((a.dtype.as_str(), a.shape.as_slice(), a.fortran), ("u1", &[2, 3, 4][..], false));
        assert!(a.bytes.iter().copied().eq(0..24), "{name}");
        assert_eq!(&*array("high").bytes, [250, 251, 252, 253, 254, 255]);
        let f = array("f");
        assert!(f.fortran && f.shape == [2, 3] && f.bytes[4] == 3, "{name}: {f:?}");
        let big = array("big");
        assert!(big.big && big.bytes[..8] == 1.5f64.to_be_bytes());
        assert_eq!(&*array("bool").bytes, [1, 0]);
        assert_eq!(numpy::integers(get("labels"), 3), Ok(vec![3, 4, 5]), "{name}");
        assert_eq!(numpy::integers(get("high"), 6), Ok((250..256).collect()));
        assert!(numpy::integers(get("high"), 5).unwrap_err().contains("6 integers, not 5"));
        assert!(numpy::array(get("labels")).unwrap_err().contains("a list is not a NumPy array"));
    }
}

/// A batch as the published archives hold them: by Python 2, protocol 2.
#[test]
fn a_batch_by_python_2() {
    let bytes = file("cifar-2.pkl");
    let pickle = Pickle::read_short(&bytes, 100).unwrap();
    let data = numpy::array(pickle.root().as_pairs().unwrap().get("data").unwrap()).unwrap();
    assert_eq!(data.shape, [2, 3072]);
    assert!(data.bytes.iter().enumerate().all(|(i, b)| usize::from(*b) == i * 7 % 251));
    assert!(Pickle::read_short(&bytes, 10).err().unwrap().why.contains("more than 10 instructions"));
}
