//! Where mails are read from. A source yields octets and knows nothing of reports.

pub mod maildir;
