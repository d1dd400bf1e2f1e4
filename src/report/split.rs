//! The tracking part cut into field groups: header blocks with empty lines between (RFC 3886, 3.1).
//! Tolerant as the RFC asks: any order, any case, folded lines, unknown fields, LF or CRLF.

use super::field::Group;
use super::read::ReadError;

/// Most field groups of one report: a message's and its recipients'.
pub const GROUPS_MAX: usize = 10_001;

/// Longest field, octets of name and value, unfolded.
pub const FIELD_OCTETS_MAX: usize = 4096;

/// The groups in order, empty ones left out. A line that is no field is passed over.
pub fn groups(part: &[u8]) -> Result<Vec<Group>, ReadError> {
    let mut groups: Vec<Group> = Vec::new();
    let mut open = false;
    let mut pending = Vec::new();
    for line in part.split(|b| *b == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let folded = matches!(line.first(), Some(b' ' | b'\t'));
        if folded && !line.trim_ascii().is_empty() && !pending.is_empty() {
            pending.extend_from_slice(line);
            limit(&pending)?;
            continue;
        }
        flush(&mut pending, &mut groups, &mut open)?;
        if line.trim_ascii().is_empty() {
            open = false;
        } else {
            pending.extend_from_slice(line);
            limit(&pending)?;
        }
    }
    flush(&mut pending, &mut groups, &mut open)?;
    Ok(groups)
}

fn limit(field: &[u8]) -> Result<(), ReadError> {
    if field.len() <= FIELD_OCTETS_MAX {
        return Ok(());
    }
    let name = field.split(|b| *b == b':').next().unwrap_or_default();
    let shown = name.get(..40).unwrap_or(name);
    Err(ReadError::FieldTooLong(
        String::from_utf8_lossy(shown).into_owned(),
    ))
}

/// Ends the field begun in `pending`, if any, and puts it into the group at hand.
fn flush(pending: &mut Vec<u8>, groups: &mut Vec<Group>, open: &mut bool) -> Result<(), ReadError> {
    let text = String::from_utf8_lossy(pending).into_owned();
    pending.clear();
    let Some((name, value)) = text.split_once(':') else {
        return Ok(());
    };
    let blank = |c: char| c.is_ascii_whitespace();
    if !*open {
        if groups.len() >= GROUPS_MAX {
            return Err(ReadError::TooManyGroups);
        }
        groups.push(Group::default());
        *open = true;
    }
    if let Some(group) = groups.last_mut() {
        group.push(name.trim_matches(blank), value.trim_matches(blank));
    }
    Ok(())
}
