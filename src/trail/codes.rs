//! What a packed record names by its place in a list. An order that changes wants another number for the index.

use super::message::Truth;
use crate::track::Role;

/// How far it is asked for.
pub const TRUTHS: [Truth; 4] = [
    Truth::Verified,
    Truth::NotOurs,
    Truth::Unproved,
    Truth::Unverifiable,
];

/// Where in the hop it was made.
pub const ROLES: [Role; 3] = [Role::Ingress, Role::Egress, Role::Delivery];

/// TLS as nearly all speak it, version and cipher suite.
pub const SUITES: [(&str, &str); 3] = [
    ("1.3", "TLS_AES_256_GCM_SHA384"),
    ("1.3", "TLS_AES_128_GCM_SHA256"),
    ("1.3", "TLS_CHACHA20_POLY1305_SHA256"),
];
