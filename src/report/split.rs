//! The tracking part cut into field groups: header blocks with empty lines between (RFC 3886, 3.1).
//! Tolerant as the RFC asks: any order, any case, folded lines, unknown fields, LF or CRLF.
//!
//! It is copied once, in the canonical form that Auth covers, and every value is a part of that copy.

use thiserror::Error;

use super::field::name;

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

/// Room for the fields of most reports.
const FIELDS_USUAL: usize = 40;

/// A part cut up.
#[derive(Debug, Default)]
pub struct Part {
    /// As [`canonical`](super::field::canonical).
    text: String,
    /// The fields in it.
    fields: Vec<Place>,
    /// Where among the fields each group begins.
    groups: Vec<usize>,
    auth: Option<String>,
}

/// Where in the text a field begins, its value begins, and that ends.
#[derive(Clone, Copy, Debug)]
struct Place {
    name: usize,
    value: usize,
    end: usize,
}

/// The fields of a group, but for Auth.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    text: &'a str,
    places: &'a [Place],
}

impl Part {
    /// Cuts the octets of a part. A line that is no field is passed over; what is no UTF-8 is replaced.
    pub fn cut(part: &[u8]) -> Result<Self, SplitError> {
        let mut cutter = Cutter::with_room(part.len());
        cutter.part(part)?;
        let Cutter {
            text, part: cut, ..
        } = cutter;
        match String::from_utf8(text) {
            Ok(text) => Ok(Self { text, ..cut }),
            Err(_) => Self::cut(String::from_utf8_lossy(part).as_bytes()),
        }
    }

    /// The groups in order, empty ones left out.
    pub fn groups(&self) -> impl Iterator<Item = Fields<'_>> {
        let ends = self.groups.iter().skip(1).chain([&usize::MAX]);
        self.groups.iter().zip(ends).map(|(from, to)| Fields {
            text: &self.text,
            places: self
                .fields
                .get(*from..self.fields.len().min(*to))
                .unwrap_or_default(),
        })
    }

    /// The value of the first Auth in the first group.
    pub fn auth(&self) -> Option<&str> {
        self.auth.as_deref()
    }

    /// What Auth covers.
    pub fn into_canonical(self) -> String {
        self.text
    }
}

impl<'a> Fields<'a> {
    /// The first field of that name.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        // The octet between is the colon.
        let long = |place: &&Place| place.value - place.name == name.len() + 1;
        let named = |place: &&Place| {
            let own = self.text.get(place.name..place.value - 1);
            own.is_some_and(|own| own.eq_ignore_ascii_case(name))
        };
        let place = self.places.iter().find(|p| long(p) && named(p))?;
        self.text.get(place.value..place.end)
    }
}

/// A part while it is cut.
struct Cutter {
    text: Vec<u8>,
    part: Part,
    /// There was no empty line since the last field.
    in_group: bool,
}

impl Cutter {
    fn with_room(octets: usize) -> Self {
        Self {
            text: Vec::with_capacity(octets),
            part: Part {
                fields: Vec::with_capacity(FIELDS_USUAL),
                groups: Vec::with_capacity(2),
                ..Part::default()
            },
            in_group: false,
        }
    }

    fn part(&mut self, part: &[u8]) -> Result<(), SplitError> {
        let mut lines = lines(part).peekable();
        let mut unfolded = Vec::new();
        while let Some(line) = lines.next() {
            if is_blank(line) {
                self.in_group = false;
                continue;
            }
            let Some(fold) = lines.next_if(|next| is_fold(next)) else {
                self.field(line)?;
                continue;
            };
            unfolded.clear();
            unfolded.extend_from_slice(line);
            unfolded.extend_from_slice(fold);
            while let Some(fold) = lines.next_if(|next| is_fold(next)) {
                unfolded.extend_from_slice(fold);
            }
            self.field(&unfolded)?;
        }
        Ok(())
    }

    fn field(&mut self, field: &[u8]) -> Result<(), SplitError> {
        limit(field)?;
        let Some((name, value)) = halves(field) else {
            return Ok(());
        };
        let Self { text, part, .. } = self;
        if !self.in_group {
            if part.groups.len() >= GROUPS_MAX {
                return Err(SplitError::TooManyGroups);
            }
            if !part.groups.is_empty() {
                text.push(b'\n');
            }
            part.groups.push(part.fields.len());
            self.in_group = true;
        }
        if name.eq_ignore_ascii_case(name::AUTH.as_bytes()) {
            if part.groups.len() == 1 && part.auth.is_none() {
                part.auth = Some(String::from_utf8_lossy(value).into_owned());
            }
            return Ok(());
        }
        let start = text.len();
        text.extend_from_slice(name);
        let own = text.get_mut(start..).unwrap_or_default();
        own.make_ascii_lowercase();
        text.push(b':');
        let place = Place {
            name: start,
            value: text.len(),
            end: text.len() + value.len(),
        };
        text.extend_from_slice(value);
        text.push(b'\n');
        part.fields.push(place);
        Ok(())
    }
}

/// The lines without their ends.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = memchr::memchr_iter(b'\n', text);
    let mut start = 0;
    let last = text.last().is_some_and(|octet| *octet != b'\n');
    ends.chain(last.then_some(text.len())).map(move |end| {
        let line = text.get(start..end).unwrap_or_default();
        start = end + 1;
        line.strip_suffix(b"\r").unwrap_or(line)
    })
}

fn is_blank(line: &[u8]) -> bool {
    line.iter().all(u8::is_ascii_whitespace)
}

/// Whether a line goes on with the field before it.
fn is_fold(line: &[u8]) -> bool {
    matches!(line.first(), Some(b' ' | b'\t')) && !is_blank(line)
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

/// Name and value.
fn halves(field: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = field.iter().position(|octet| *octet == b':')?;
    let (name, value) = (field.get(..colon)?, field.get(colon + 1..)?);
    Some((name.trim_ascii(), value.trim_ascii()))
}
