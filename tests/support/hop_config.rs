//! The configuration of a hop: an ingress in front of an MTA, and a way out behind it.

use std::fmt::Write;
use std::net::SocketAddrV4;

use super::net::NextHop;

/// A hop to be configured.
pub struct HopConfig<'a> {
    /// What it is called.
    pub hostname: &'a str,
    /// Where its MTA listens.
    pub mta: SocketAddrV4,
    /// Where mail comes in.
    pub ingress: SocketAddrV4,
    /// Where the MTA hands it over.
    pub departure: SocketAddrV4,
    /// `"egress"` or `"delivery"`.
    pub departure_role: &'a str,
    /// Where mail goes from there.
    pub onward: NextHop,
    /// Where mail for origin.test goes instead: reports, most of it.
    pub home: NextHop,
    /// The way out of reports.
    pub via: String,
}

impl HopConfig<'_> {
    /// The configuration.
    pub fn text(&self) -> String {
        let mut text = format!(
            "hostname = \"{host}\"\n\
             [reports]\nfrom = \"hoptrail@{host}\"\nvia = \"{via}\"\naccepted = \"auto\"\n\
             [policy]\nallow = [\"127.0.0.0/8\"]\n",
            host = self.hostname,
            via = self.via
        );
        for (role, listen, protocol, next_hop) in [
            ("ingress", self.ingress, "smtp", NextHop::Smtp(self.mta)),
            (self.departure_role, self.departure, "lmtp", self.onward),
        ] {
            let _ = write!(
                text,
                "[[listener]]\nrole = \"{role}\"\nlisten = \"{listen}\"\n\
                 protocol = \"{protocol}\"\nnext_hop = \"{next_hop}\"\n"
            );
        }
        let _ = writeln!(text, "routes = {{ \"origin.test\" = \"{}\" }}", self.home);
        text
    }
}
