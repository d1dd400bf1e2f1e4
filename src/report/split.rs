//! The tracking part cut into field groups: header blocks with empty lines between (RFC 3886, 3.1).
//! Tolerant as the RFC asks: any order, any case, folded lines, unknown fields, LF or CRLF.

use thiserror::Error;

use super::field::{Field, Group};

/// Most field groups of one report: a message's and its recipients'.
pub const GROUPS_MAX: usize = 10_001;

/// Longest field, octets of name and value, unfolded.
pub const FIELD_OCTETS_MAX: usize = 4096;

/// Why a part is not cut up.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs)]
pub enum SplitError {
    #[error("has more than {GROUPS_MAX} field groups")]
    TooManyGroups,
    #[error("field {0} is longer than {FIELD_OCTETS_MAX} octets")]
    FieldTooLong(String),
}

/// Room for the fields of most groups: of the first, which is about the message, and of any other.
const FIELDS_USUAL: [usize; 2] = [24, 12];

/// The part with each field on a line of its own, ended by LF; what is no UTF-8 is replaced.
pub fn unfold(part: &[u8]) -> Result<String, SplitError> {
    let mut text = Vec::with_capacity(part.len());
    // Where the line begins that a fold would go on.
    let mut open = None;
    let mut rest = part;
    while !rest.is_empty() {
        let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let (line, behind) = rest.split_at_checked(end).unwrap_or((rest, &[]));
        rest = behind.get(1..).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let folded = matches!(line.first(), Some(b' ' | b'\t'));
        let blank = line.trim_ascii().is_empty();
        let start = match open {
            Some(start) if folded && !blank => {
                text.pop();
                start
            }
            _ => text.len(),
        };
        if !blank {
            text.extend_from_slice(line);
        }
        limit(text.get(start..).unwrap_or_default())?;
        text.push(b'\n');
        open = (!blank).then_some(start);
    }
    Ok(String::from_utf8(text)
        .unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
}

fn limit(field: &[u8]) -> Result<(), SplitError> {
    if field.len() <= FIELD_OCTETS_MAX {
        return Ok(());
    }
    let name = field.split(|b| *b == b':').next().unwrap_or_default();
    let shown = name.get(..40).unwrap_or(name);
    Err(SplitError::FieldTooLong(
        String::from_utf8_lossy(shown).into_owned(),
    ))
}

/// The groups of an unfolded part in order, empty ones left out. A line that is no field is passed over.
pub fn groups(text: &str) -> Result<Vec<Group<'_>>, SplitError> {
    let mut groups: Vec<Group> = Vec::with_capacity(2);
    let mut open = false;
    let mut start = 0;
    for end in memchr::memchr_iter(b'\n', text.as_bytes()) {
        let line = text.get(start..end).unwrap_or_default();
        start = end + 1;
        if line.is_empty() {
            open = false;
            continue;
        }
        let Some((name, value)) = halves(line) else {
            continue;
        };
        if !open {
            if groups.len() >= GROUPS_MAX {
                return Err(SplitError::TooManyGroups);
            }
            let usual = FIELDS_USUAL[usize::from(!groups.is_empty())];
            groups.push(Group(Vec::with_capacity(usual)));
            open = true;
        }
        if let Some(group) = groups.last_mut() {
            group.push(name, value);
        }
    }
    Ok(groups)
}

fn halves(line: &str) -> Option<Field<'_>> {
    let colon = memchr::memchr(b':', line.as_bytes())?;
    let (name, value) = (line.get(..colon)?, line.get(colon + 1..)?);
    Some((name.trim_ascii().into(), value.trim_ascii().into()))
}
