//! The strings and numbers of protocol 0, which are written as lines of text.

/// Parses a decimal integer; `None` if it is not one or needs more than 128 bits.
pub(super) fn long(line: &[u8]) -> Option<i128> {
    std::str::from_utf8(line).ok()?.trim().parse().ok()
}

/// Parses a floating-point number as Python's `repr` writes it.
pub(super) fn float(line: &[u8]) -> Option<f64> {
    std::str::from_utf8(line).ok()?.trim().parse().ok()
}

/// Parses a Python 2 string literal with its quotes, such as `'a\x00'`.
pub(super) fn literal(line: &[u8]) -> Option<Vec<u8>> {
    let (quote, inner) = match line.trim_ascii() {
        [q @ (b'\'' | b'"'), inner @ .., end] if q == end => (*q, inner),
        _ => return None,
    };
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let [first, after @ ..] = rest {
        rest = after;
        match (*first, after) {
            (b'\\', [c, after @ ..]) => {
                rest = after;
                rest = escape(*c, rest, &mut out)?;
            }
            (b'\\', []) => return None,
            (c, _) if c == quote => return None,
            (c, _) => out.push(c),
        }
    }
    Some(out)
}

/// Decodes the escape sequence that starts with `\c` and returns the rest.
fn escape<'a>(c: u8, rest: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    let plain = match c {
        b'\n' => return Some(rest),
        b'n' => b'\n',
        b't' => b'\t',
        b'r' => b'\r',
        b'a' => 7,
        b'b' => 8,
        b'f' => 12,
        b'v' => 11,
        b'\\' | b'\'' | b'"' => c,
        b'x' => {
            let digits = rest.get(..2)?;
            out.push(u8::try_from(hex(digits)?).ok()?);
            return rest.get(2..);
        }
        b'0'..=b'7' => {
            let n = rest.iter().take(2).take_while(|d| (b'0'..=b'7').contains(d)).count();
            let value = rest[..n].iter().fold(u32::from(c - b'0'), |v, d| v * 8 + u32::from(d - b'0'));
            // Python keeps the low byte of \400 to \777.
            out.push(value as u8);
            return rest.get(n..);
        }
        _ => {
            out.push(b'\\');
            c
        }
    };
    out.push(plain);
    Some(rest)
}

/// Decodes Python's `raw-unicode-escape`: Latin-1 with `\uXXXX` and `\UXXXXXXXX` for all other characters.
pub(super) fn unicode(line: &[u8]) -> Option<String> {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    let mut high = None;
    while let [first, after @ ..] = rest {
        let digits = match (*first, after.first()) {
            (b'\\', Some(b'u')) => 4,
            (b'\\', Some(b'U')) => 8,
            _ => 0,
        };
        let code = if digits == 0 { u32::from(*first) } else { hex(after.get(1..=digits)?)? };
        rest = if digits == 0 { after } else { after.get(digits + 1..)? };
        // Python 2 may write characters above U+FFFF as surrogate pairs.
        match (high.take(), code) {
            (None, 0xd800..=0xdbff) => high = Some(code),
            (Some(h), 0xdc00..=0xdfff) => {
                out.push(char::from_u32(0x10000 + ((h - 0xd800) << 10) + (code - 0xdc00))?);
            }
            (Some(_), _) => return None,
            (None, _) => out.push(char::from_u32(code)?),
        }
    }
    high.is_none().then_some(out)
}

fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0u32, |v, d| v.checked_mul(16)?.checked_add((*d as char).to_digit(16)?))
}
