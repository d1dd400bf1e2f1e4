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
    /// Of its name.
    mark: u32,
    name: usize,
    value: usize,
    end: usize,
}

/// What tells most names apart: how long they are, and their last three letters.
fn mark(name: &[u8]) -> u32 {
    let long = name.len().to_le_bytes()[0];
    match name {
        [.., a, b, c] => u32::from_le_bytes([long, lower(*a), lower(*b), lower(*c)]),
        _ => long.into(),
    }
}

/// The lower case of what a known name is made of: letters and dashes.
fn lower(octet: u8) -> u8 {
    octet | 0x20
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
        let mark = mark(name.as_bytes());
        let text = self.text.as_bytes();
        let named = |place: &Place| {
            // The octet between is the colon.
            let own = text.get(place.name..place.value - 1);
            own.is_some_and(|own| is(own, name))
        };
        let mut places = self.places.iter();
        let place = places.find(|place| place.mark == mark && named(place))?;
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
        let mut unfolded = Vec::new();
        let mut rest = part;
        while !rest.is_empty() {
            let (line, behind) = first_line(rest);
            rest = behind;
            if is_blank(line) {
                self.in_group = false;
                continue;
            }
            if !is_folded(rest) {
                self.field(line)?;
                continue;
            }
            unfolded.clear();
            unfolded.extend_from_slice(line);
            while is_folded(rest) {
                let (fold, behind) = first_line(rest);
                unfolded.extend_from_slice(fold);
                rest = behind;
            }
            self.field(&unfolded)?;
        }
        Ok(())
    }

    /// Begins a group.
    fn group(&mut self) -> Result<(), SplitError> {
        let groups = &mut self.part.groups;
        if groups.len() >= GROUPS_MAX {
            return Err(SplitError::TooManyGroups);
        }
        if !groups.is_empty() {
            self.text.push(b'\n');
        }
        groups.push(self.part.fields.len());
        self.in_group = true;
        Ok(())
    }

    fn field(&mut self, field: &[u8]) -> Result<(), SplitError> {
        limit(field)?;
        let Some((name, value)) = halves(field) else {
            return Ok(());
        };
        if !self.in_group {
            self.group()?;
        }
        let Self { text, part, .. } = self;
        let start = text.len();
        text.extend_from_slice(name);
        let own = text.get_mut(start..).unwrap_or_default();
        own.make_ascii_lowercase();
        let mark_of_own = mark(own);
        if is(own, name::AUTH) {
            if part.groups.len() == 1 && part.auth.is_none() {
                part.auth = Some(String::from_utf8_lossy(value).into_owned());
            }
            text.truncate(start);
            return Ok(());
        }
        text.push(b':');
        let place = Place {
            mark: mark_of_own,
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

/// Whether a name in lower case is this known one.
fn is(own: &[u8], name: &str) -> bool {
    let mut pairs = own.iter().zip(name.bytes());
    own.len() == name.len() && pairs.all(|(own, octet)| *own == lower(octet))
}

/// The first line without its end, and what stands behind it.
fn first_line(text: &[u8]) -> (&[u8], &[u8]) {
    let end = memchr::memchr(b'\n', text).unwrap_or(text.len());
    let (line, behind) = text.split_at_checked(end).unwrap_or((text, &[]));
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    (line, behind.get(1..).unwrap_or_default())
}

fn is_blank(line: &[u8]) -> bool {
    line.iter().all(u8::is_ascii_whitespace)
}

/// Whether the first line goes on with the field before it.
fn is_folded(text: &[u8]) -> bool {
    matches!(text.first(), Some(b' ' | b'\t')) && !is_blank(first_line(text).0)
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
