//! The names of the fields of a report, and of the notices of other mail systems: one table for writer and reader, in
//! the order in which they are written.

use std::borrow::Cow;

macro_rules! names {
    ($($(#[$meta:meta])* $name:ident = $written:literal,)*) => {
        /// A name that is known.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)] // Each is its own text.
        pub enum Name {
            $($(#[$meta])* $name,)*
        }

        impl Name {
            /// Every name.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// As it is written.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $written,)*
                }
            }

            /// What its field begins with, a colon and a blank behind the name.
            pub const fn begins(self) -> &'static [u8] {
                match self {
                    $(Self::$name => concat!($written, ": ").as_bytes(),)*
                }
            }

            /// The same in lower case and without the blank, as Auth covers it.
            pub const fn begins_lower(self) -> &'static [u8] {
                match self {
                    $(Self::$name => const { &lower::<{ $written.len() + 1 }>(concat!($written, ":")) },)*
                }
            }
        }
    };
}

names! {
    // Per message (RFC 3886, 3.2), in the RFC's order, then ours.
    OriginalEnvelopeId = "Original-Envelope-Id",
    ReportingMta = "Reporting-MTA",
    ArrivalDate = "Arrival-Date",
    Version = "X-Hoptrail-Version",
    /// In a recipient's group: from here on it is another step of the hop with this message, told together.
    Step = "X-Hoptrail-Step",
    Parent = "X-Hoptrail-Parent",
    Hop = "X-Hoptrail-Hop",
    Role = "X-Hoptrail-Role",
    Arrived = "X-Hoptrail-Arrived",
    MessageId = "X-Hoptrail-Message-Id",
    Sent = "X-Hoptrail-Sent",
    /// In a message's group the hop's own queue id, in a recipient's group the next hop's.
    QueueId = "X-Hoptrail-Queue-Id",
    Size = "X-Hoptrail-Size",
    CameFor = "X-Hoptrail-Came-For",
    Filtered = "X-Hoptrail-Filtered",
    Ring = "X-Hoptrail-Ring",
    TimesIn = "X-Hoptrail-Times-In",
    /// In a message's group those of its step, in a recipient's group those of the step that begins there.
    TimesOut = "X-Hoptrail-Times-Out",
    TlsIn = "X-Hoptrail-TLS-In",
    /// Where the exchanges out stand.
    TlsOut = "X-Hoptrail-TLS-Out",
    Auth = "X-Hoptrail-Auth",

    // Per recipient (RFC 3886, 3.3), in the RFC's order, then ours. Will-Retry-Until is left out: the
    // message waits in the MTA's queue, whose lifetime a proxy does not know.
    OriginalRecipient = "Original-Recipient",
    FinalRecipient = "Final-Recipient",
    Action = "Action",
    Status = "Status",
    RemoteMta = "Remote-MTA",
    DiagnosticCode = "Diagnostic-Code",
    LastAttemptDate = "Last-Attempt-Date",
    Event = "X-Hoptrail-Event",
    Attempted = "X-Hoptrail-Attempted",
    Reply = "X-Hoptrail-Reply",

    // Of mail programs (RFC 8098, 3.2).
    ReportingUa = "Reporting-UA",
    OriginalMessageId = "Original-Message-ID",
    Disposition = "Disposition",
}

const fn lower<const N: usize>(written: &str) -> [u8; N] {
    let mut lower = [0; N];
    lower.copy_from_slice(written.as_bytes());
    lower.make_ascii_lowercase();
    lower
}

impl Name {
    /// The name that somebody wrote, in whatever case.
    pub fn of(written: &[u8]) -> Option<Self> {
        let as_long = |known: &Self| known.begins().len() == written.len() + ": ".len();
        let is = |known: &Self| known.as_str().as_bytes().eq_ignore_ascii_case(written);
        Self::ALL.iter().copied().filter(as_long).find(is)
    }
}

impl From<Name> for Cow<'_, str> {
    fn from(name: Name) -> Self {
        name.as_str().into()
    }
}
