//! What a hop says in its own words where no next hop gave it any: to its MTA as a reply, and in the report where else
//! a server's words stand. By how they begin and end a reader tells them apart.

/// What cannot be reached stands behind it, and why.
pub const NEXT_HOP: &str = "next hop ";
/// There is nothing to try.
pub const NO_NEXT_HOP: &str = "no next hop to try";
/// It did not come so far that the message could go there.
pub const NOT_READY: &str = "no next hop was ready for the message in time";
/// The dialogue broke off.
pub const LOST: &str = "connection to the next hop lost";
/// It cannot go on as it is; what it is stands behind it.
pub const NOT_TAKEN: &str = "the next hop does not take ";

/// How each begins and ends; the ways of a domain to have no host are told by `hop::route`.
const OWN: [(&str, &str); 11] = [
    (NEXT_HOP, ""),
    (NO_NEXT_HOP, ""),
    (NOT_READY, ""),
    (LOST, ""),
    (NOT_TAKEN, ""),
    ("domain ", " does not exist or has no mail server"),
    ("domain ", " does not accept mail"),
    ("domain ", " is malformed"),
    ("an address without a domain goes nowhere from here", ""),
    ("mail for ", " loops back to this host"),
    ("no answer from the name servers for ", ""),
];

/// The words of a reply that are the hop's own, without its codes.
pub fn words(reply: &str) -> Option<&str> {
    let (_, behind) = reply.split_once(' ')?;
    let (_, text) = behind.split_once(' ')?;
    let own = |(begin, end): &(&str, &str)| text.starts_with(begin) && text.ends_with(end);
    OWN.iter().any(own).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn a_server_speaks_for_itself() {
        assert_eq!(
            words("451 4.4.2 connection to the next hop lost"),
            Some("connection to the next hop lost")
        );
        for servers in [
            "250 2.0.0 Ok: queued as 4F7A21C0",
            "550 5.1.2 domain example.net is unknown here",
            "451 next hop",
            "451",
            "",
        ] {
            assert_eq!(words(servers), None, "{servers}");
        }
    }
}
