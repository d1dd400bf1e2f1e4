//! The tracking part cut into field groups: header blocks with empty lines between (RFC 3886, 3.1).
//! Tolerant as the RFC asks: any order, any case, folded lines, unknown fields, LF or CRLF.

use std::borrow::Cow;

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

/// The groups in order, empty ones left out. A line that is no field is passed over.
pub fn groups(part: &[u8]) -> Result<Vec<Group<'_>>, SplitError> {
    let mut groups: Vec<Group> = Vec::new();
    let mut open = false;
    let mut pending: Cow<[u8]> = Cow::default();
    for line in part.split(|b| *b == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let folded = matches!(line.first(), Some(b' ' | b'\t'));
        let blank = line.trim_ascii().is_empty();
        if folded && !blank && !pending.is_empty() {
            pending.to_mut().extend_from_slice(line);
        } else {
            flush(std::mem::take(&mut pending), &mut groups, &mut open)?;
            if blank {
                open = false;
            } else {
                pending = line.into();
            }
        }
        limit(&pending)?;
    }
    flush(pending, &mut groups, &mut open)?;
    Ok(groups)
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

/// Puts a field, if it is one, into the group at hand.
fn flush<'a>(
    field: Cow<'a, [u8]>,
    groups: &mut Vec<Group<'a>>,
    open: &mut bool,
) -> Result<(), SplitError> {
    let Some((name, value)) = name_and_value(field) else {
        return Ok(());
    };
    if !*open {
        if groups.len() >= GROUPS_MAX {
            return Err(SplitError::TooManyGroups);
        }
        groups.push(Group::default());
        *open = true;
    }
    if let Some(group) = groups.last_mut() {
        group.push(name, value);
    }
    Ok(())
}

/// A field's two halves; borrowed where it stands on one line and is UTF-8, as good as always.
fn name_and_value(field: Cow<'_, [u8]>) -> Option<Field<'_>> {
    match field {
        Cow::Borrowed(octets) => match String::from_utf8_lossy(octets) {
            Cow::Borrowed(text) => halves(text).map(|(n, v)| (n.into(), v.into())),
            Cow::Owned(text) => owned_halves(&text),
        },
        Cow::Owned(octets) => owned_halves(&String::from_utf8_lossy(&octets)),
    }
}

fn owned_halves(field: &str) -> Option<Field<'static>> {
    let (name, value) = halves(field)?;
    Some((name.to_owned().into(), value.to_owned().into()))
}

fn halves(field: &str) -> Option<(&str, &str)> {
    let (name, value) = field.split_once(':')?;
    let blank = |c: char| c.is_ascii_whitespace();
    Some((name.trim_matches(blank), value.trim_matches(blank)))
}
