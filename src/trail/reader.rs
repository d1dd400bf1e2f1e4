//! The way through packed records: numbers, moments and texts, one behind the other. Total: it ends where something
//! else stands than should.
//!
//! Must not know what a record says; the format stands at the top of `pack`.

/// The words at a place; none where there are none.
pub fn words_at(octets: &[u8], place: u32) -> &str {
    Reader::at(octets, place)
        .and_then(|mut r| r.words())
        .unwrap_or_default()
}

/// The octets of [`words_at`], whatever they are.
pub fn octets_at(octets: &[u8], place: u32) -> &[u8] {
    Reader::at(octets, place)
        .and_then(|mut r| r.counted())
        .unwrap_or_default()
}

/// The octets of a Message-ID behind the words of an id at a place.
pub fn words_behind(octets: &[u8], place: u32) -> Option<&[u8]> {
    Text::Behind(Reader::at(octets, place)?).octets()
}

/// A place among records; going on from there ends where something else stands than should.
#[derive(Clone)]
pub struct Reader<'a> {
    octets: &'a [u8],
    rest: &'a [u8],
    moment: i64,
}

/// A text that nobody has looked at yet.
#[derive(Clone)]
pub enum Text<'a> {
    /// It stands here.
    Here(&'a [u8]),
    /// It stood there before.
    Before(Reader<'a>),
    /// It stands behind the words of an id.
    Behind(Reader<'a>),
}

impl<'a> Text<'a> {
    /// Its octets, whatever they are.
    pub fn octets(self) -> Option<&'a [u8]> {
        match self {
            Self::Here(octets) => Some(octets),
            Self::Before(mut words) => words.counted(),
            Self::Behind(mut id) => {
                id.counted()?;
                let count = id.count()?.checked_sub(2)?;
                id.take(count)
            }
        }
    }

    /// What it says.
    pub fn words(self) -> Option<&'a str> {
        std::str::from_utf8(self.octets()?).ok()
    }
}

/// What is there, the next first.
pub struct Mask(pub u8);

impl Mask {
    /// What comes next, if it is there. Without the outer one something else stands there than should.
    #[allow(clippy::option_option)]
    pub fn next<T>(&mut self, read: impl FnOnce() -> Option<T>) -> Option<Option<T>> {
        let there = self.0 & 1 == 1;
        self.0 >>= 1;
        if there { read().map(Some) } else { Some(None) }
    }
}

impl<'a> Reader<'a> {
    /// From a place on.
    pub fn at(octets: &'a [u8], place: u32) -> Option<Self> {
        let rest = octets.get(usize::try_from(place).ok()?..)?;
        Some(Self {
            octets,
            rest,
            moment: 0,
        })
    }

    /// So many octets.
    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    /// An octet.
    pub fn octet(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    /// Whether a zero stands here, which it passes.
    pub fn zero(&mut self) -> Option<bool> {
        let (first, rest) = self.rest.split_first()?;
        let is_zero = *first == 0;
        if is_zero {
            self.rest = rest;
        }
        Some(is_zero)
    }

    /// One of these values.
    pub fn one_of<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        all.get(usize::from(self.octet()?)).copied()
    }

    /// A number.
    pub fn number(&mut self) -> Option<u64> {
        const OCTETS_MAX: usize = 10;
        let mut number = 0;
        for n in 0..OCTETS_MAX {
            let octet = *self.rest.get(n)?;
            number |= u64::from(octet & 0x7f) << (7 * n);
            if octet < 0x80 {
                self.rest = self.rest.get(n + 1..)?;
                return Some(number);
            }
        }
        None
    }

    /// How many there are.
    pub fn count(&mut self) -> Option<usize> {
        self.number()?.try_into().ok()
    }

    /// A moment, or what is near one, µs.
    pub fn moment(&mut self) -> Option<i64> {
        let zigzag = self.number()?;
        let difference = (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed();
        self.moment = self.moment.wrapping_add(difference);
        Some(self.moment)
    }

    /// A number of eight octets.
    pub fn eight(&mut self) -> Option<u64> {
        let octets = self.take(8)?.try_into().ok()?;
        Some(u64::from_le_bytes(octets))
    }

    /// A text that stands here.
    pub fn words(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.counted()?).ok()
    }

    /// The octets of such a text, whatever they are.
    pub fn counted(&mut self) -> Option<&'a [u8]> {
        let count = self.count()?.checked_sub(1)?;
        self.take(count)
    }

    /// A text that stands here, or stood before.
    pub fn text(&mut self) -> Option<&'a str> {
        self.passed_text()?.words()
    }

    /// The same, without looking at it.
    pub fn passed_text(&mut self) -> Option<Text<'a>> {
        if !self.zero()? {
            return self.counted().map(Text::Here);
        }
        let place = self.number()?.try_into().ok()?;
        Self::at(self.octets, place).map(Text::Before)
    }

    /// So many values, one behind the other.
    pub fn several<T>(
        &mut self,
        count: usize,
        mut read: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        /// There are rarely more; what is damaged may say so.
        const MANY: usize = 8;
        let mut values = Vec::with_capacity(count.min(MANY));
        for _ in 0..count {
            values.push(read(self)?);
        }
        Some(values)
    }

    /// Their number, and values.
    pub fn list<T>(&mut self, read: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.count()?;
        self.several(count, read)
    }
}
