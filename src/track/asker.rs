//! Who asked, in one word.

use serde::{Deserialize, Serialize};

/// Who asked, as far as it decides what is told and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Asker {
    /// A session that passed AUTH.
    Authenticated,
    /// A client of a configured network.
    Network,
    /// A hop that shares our key, for an asker that it knew.
    Carry,
    /// A stranger, for whom the domain of the reverse-path vouches.
    Verified,
}

impl Asker {
    const ALL: [Self; 4] = [
        Self::Authenticated,
        Self::Network,
        Self::Carry,
        Self::Verified,
    ];

    /// The word in the carry header and in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Authenticated => "authenticated",
            Self::Network => "network",
            Self::Carry => "carry",
            Self::Verified => "verified",
        }
    }

    /// The asker of this word.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|asker| asker.as_str() == word)
    }

    /// Who asks where another hop's word is taken for the request: strangers stay strangers.
    #[must_use]
    pub fn carried(self) -> Self {
        match self {
            Self::Verified => Self::Verified,
            _ => Self::Carry,
        }
    }
}
