//! The tracking part cut into field groups: header blocks with empty lines between (RFC 3886, 3.1).
//! Tolerant as the RFC asks: any order, any case, folded lines, unknown fields, LF or CRLF.
//!
//! It is copied once, in the canonical form that Auth covers, and every value is a part of that copy.

use thiserror::Error;

use super::name::Name;

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

/// Room for what is folded in most reports: the exchanges of a leg.
const FOLDED_USUAL: usize = 512;

/// Under how many names, the next in the order of writing, a field is looked for before any other: most reports leave
/// out fewer between two.
const AHEAD: usize = 5;

/// A part cut up.
#[derive(Debug, Default)]
pub struct Part {
    /// As [`canonical`](super::field::canonical).
    text: String,
    groups: Vec<Places>,
    auth: Option<Vec<u8>>,
}

/// Where in the text the values of a group are, by their names: of each name the first.
type Places = [Place; Name::ALL.len()];

/// Where a value begins and ends.
#[derive(Clone, Copy, Debug)]
struct Place {
    from: u32,
    end: u32,
}

/// The fields of a group, but for Auth.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    text: &'a str,
    places: &'a Places,
}

impl Part {
    /// Cuts the octets of a part. A line that is no field is passed over; what is no UTF-8 is replaced.
    pub fn cut(part: &[u8]) -> Result<Self, SplitError> {
        Self::cut_within(String::new(), part)
    }

    /// The same; the copy is made within this room, whatever stands there.
    pub fn cut_within(room: String, part: &[u8]) -> Result<Self, SplitError> {
        let mut cutter = Cutter::within(room.into_bytes(), part.len());
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
        let text = &self.text;
        self.groups.iter().map(|places| Fields { text, places })
    }

    /// The value of the first Auth in the first group.
    pub fn auth(&self) -> Option<&[u8]> {
        self.auth.as_deref()
    }

    /// What Auth covers.
    pub fn into_canonical(self) -> String {
        self.text
    }
}

impl<'a> Fields<'a> {
    /// The first field of that name.
    pub fn get(&self, name: Name) -> Option<&'a str> {
        let at = |octets: u32| usize::try_from(octets).ok();
        let place = self.places.get(name as usize)?;
        let value = || self.text.get(at(place.from)?..at(place.end)?);
        place.is_there().then(value)?
    }
}

/// A part while it is cut.
struct Cutter {
    text: Vec<u8>,
    part: Part,
    /// There was no empty line since the last field.
    in_group: bool,
    /// The place among all names of the one that comes next if the fields stand in the order of writing.
    next: usize,
}

impl Cutter {
    fn within(mut text: Vec<u8>, octets: usize) -> Self {
        text.clear();
        text.reserve(octets);
        Self {
            text,
            part: Part {
                groups: Vec::with_capacity(2),
                ..Part::default()
            },
            in_group: false,
            next: 0,
        }
    }

    fn part(&mut self, part: &[u8]) -> Result<(), SplitError> {
        let mut unfolded = Vec::with_capacity(FOLDED_USUAL);
        let mut rest = part;
        while !rest.is_empty() {
            let (mut field, behind) = first_line(rest);
            rest = behind;
            if is_blank(field) {
                self.in_group = false;
                self.next = Name::OriginalRecipient as usize;
                continue;
            }
            if is_folded(rest) {
                unfolded.clear();
                unfolded.extend_from_slice(field);
                while is_folded(rest) {
                    let (fold, behind) = first_line(rest);
                    unfolded.extend_from_slice(fold);
                    rest = behind;
                }
                field = &unfolded;
            }
            self.field(field)?;
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
        groups.push([Place::NOWHERE; Name::ALL.len()]);
        self.in_group = true;
        Ok(())
    }

    fn field(&mut self, field: &[u8]) -> Result<(), SplitError> {
        limit(field)?;
        let Some((name, value)) = self.expected(field).or_else(|| any(field)) else {
            return Ok(());
        };
        if !self.in_group {
            self.group()?;
        }
        match name {
            Written::Known(Name::Auth) => self.auth(value),
            Written::Known(known) => self.known(known, value),
            Written::Other(name) => self.other(name, value),
        }
        Ok(())
    }

    /// A field that stands where and as the writer puts it, which costs no search.
    fn expected<'a>(&self, field: &'a [u8]) -> Option<(Written<'a>, &'a [u8])> {
        let mut names = Name::ALL.iter().skip(self.next).take(AHEAD);
        names.find_map(|name| {
            let begins = name.begins();
            // Mostly its length alone shows that it is another one.
            let may_be = field.get(begins.len() - 2) == Some(&b':');
            let value = may_be.then(|| field.strip_prefix(begins))??;
            Some((Written::Known(*name), value.trim_ascii()))
        })
    }

    fn auth(&mut self, value: &[u8]) {
        if self.part.groups.len() == 1 {
            self.part.auth.get_or_insert_with(|| value.to_vec());
        }
    }

    fn known(&mut self, name: Name, value: &[u8]) {
        self.next = name as usize + 1;
        self.text.extend_from_slice(name.begins_lower());
        let place = self.value(value);
        let group = self.part.groups.last_mut();
        let first = group.and_then(|group| group.get_mut(name as usize));
        if let Some(first) = first.filter(|first| !first.is_there()) {
            *first = place;
        }
    }

    fn other(&mut self, name: &[u8], value: &[u8]) {
        self.text.extend(name.iter().map(u8::to_ascii_lowercase));
        self.text.push(b':');
        self.value(value);
    }

    /// Appends what stands behind a name and its colon.
    fn value(&mut self, value: &[u8]) -> Place {
        let octets = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        let from = octets(self.text.len());
        self.text.extend_from_slice(value);
        let end = octets(self.text.len());
        self.text.push(b'\n');
        Place { from, end }
    }
}

impl Place {
    /// Of a field that is not there: every value stands behind a name.
    const NOWHERE: Self = Self { from: 0, end: 0 };

    fn is_there(self) -> bool {
        self.end > 0
    }
}

/// The name of a field.
enum Written<'a> {
    Known(Name),
    Other(&'a [u8]),
}

/// Name and value of any field.
fn any(field: &[u8]) -> Option<(Written<'_>, &[u8])> {
    let colon = memchr::memchr(b':', field)?;
    let (name, value) = (field.get(..colon)?, field.get(colon + 1..)?);
    let name = name.trim_ascii();
    let written = Name::of(name).map_or(Written::Other(name), Written::Known);
    Some((written, value.trim_ascii()))
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
    let is_in_line = |octet: &&u8| **octet != b'\n';
    matches!(text.first(), Some(b' ' | b'\t'))
        && !text
            .iter()
            .take_while(is_in_line)
            .all(u8::is_ascii_whitespace)
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
