//! Postfix, Exim, `OpenSMTPD` and Sendmail as relays: everything goes to one next hop; Postfix and Exim know
//! domains that are routed elsewhere, and try again within three seconds what is deferred. Each can have a domain
//! of its own, with aliases ([`Setup::home`]).

use std::fmt::Write;
use std::net::{SocketAddrV4, SocketAddrV6};
use std::thread;

use super::lab::{Daemon, State, package};
use super::net::{self, NextHop};

/// Has `OpenSMTPD` try again at once what it would by itself try in minutes. The command wants to be of its queue's group.
pub const SCHEDULE: [&str; 6] = [
    "setpriv",
    "--regid=opensmtpq",
    "--clear-groups",
    "smtpctl",
    "schedule",
    "all",
];

#[derive(Clone, Copy)]
enum Software {
    Postfix,
    Exim,
    OpenSmtpd,
    Sendmail,
}

/// An MTA to be started.
pub struct Setup {
    software: Software,
    hostname: String,
    address: SocketAddrV4,
    also: Option<SocketAddrV6>,
    next_hop: Option<NextHop>,
    routes: Vec<(String, NextHop)>,
    local_domain: String,
    home: Option<Home>,
    one_recipient: bool,
    without_dsn: bool,
    settings: Vec<String>,
    services: Vec<String>,
    files: Vec<(String, String)>,
}

/// A domain the MTA expands aliases and .forward files in. Its users are alice and bob, with homes in `var/home`.
struct Home {
    domain: String,
    aliases: Vec<(String, String)>,
    store: SocketAddrV4,
}

/// A running MTA. It relays for all of loopback.
pub struct Mta {
    address: SocketAddrV4,
    daemon: Daemon,
}

impl Mta {
    /// A Postfix that calls itself `hostname`.
    pub fn postfix(hostname: &str) -> Setup {
        Setup::new(Software::Postfix, hostname)
    }

    /// An Exim that calls itself `hostname`.
    pub fn exim(hostname: &str) -> Setup {
        Setup::new(Software::Exim, hostname)
    }

    /// An `OpenSMTPD` that calls itself `hostname`.
    pub fn opensmtpd(hostname: &str) -> Setup {
        Setup::new(Software::OpenSmtpd, hostname)
    }

    /// A Sendmail that calls itself `hostname`.
    pub fn sendmail(hostname: &str) -> Setup {
        Setup::new(Software::Sendmail, hostname)
    }

    /// Where its smtpd listens.
    pub fn address(&self) -> SocketAddrV4 {
        self.address
    }

    /// Ends it as a crash does.
    pub fn kill(&mut self) {
        self.daemon.kill();
    }

    /// The running daemon, for its files and its namespace.
    pub fn daemon(&self) -> &Daemon {
        &self.daemon
    }
}

impl Setup {
    fn new(software: Software, hostname: &str) -> Self {
        Self {
            software,
            hostname: hostname.to_owned(),
            address: net::address(),
            also: None,
            next_hop: None,
            routes: Vec::new(),
            local_domain: String::new(),
            home: None,
            one_recipient: false,
            without_dsn: false,
            settings: Vec::new(),
            services: Vec::new(),
            files: Vec::new(),
        }
    }

    /// Listens here instead of on a fresh address (which [`Setup::address`] tells).
    pub fn listen(mut self, address: SocketAddrV4) -> Self {
        self.address = address;
        self
    }

    /// Where it will listen.
    pub fn address(&self) -> SocketAddrV4 {
        self.address
    }

    /// Where all mail goes that no route takes.
    pub fn next_hop(mut self, next_hop: NextHop) -> Self {
        self.next_hop = Some(next_hop);
        self
    }

    /// Where the mail of one domain goes (Postfix and Exim only).
    pub fn route(mut self, domain: &str, next_hop: NextHop) -> Self {
        self.routes.push((domain.to_owned(), next_hop));
        self
    }

    /// The domain it is the final MTA of (Postfix only); its mail too goes to the next hop.
    pub fn local_domain(mut self, domain: &str) -> Self {
        domain.clone_into(&mut self.local_domain);
        self
    }

    /// Its own domain: an alias is a name and what it stands for, separated by commas; `owner-x` is the owner of the
    /// list `x`. What is for a user goes to `store` by LMTP.
    pub fn home(mut self, domain: &str, aliases: &[(&str, &str)], store: SocketAddrV4) -> Self {
        let owned = |(name, members): &(&str, &str)| ((*name).to_owned(), (*members).to_owned());
        self.home = Some(Home {
            domain: domain.to_owned(),
            aliases: aliases.iter().map(owned).collect(),
            store,
        });
        self
    }

    /// Hands over one recipient in a transaction (`OpenSMTPD` has no such setting).
    pub fn one_recipient(mut self) -> Self {
        self.one_recipient = true;
        self
    }

    /// Does not announce DSN, which is how Exim comes (Exim only).
    pub fn without_dsn(mut self) -> Self {
        self.without_dsn = true;
        self
    }

    /// One more line of main.cf (Postfix), of the main section (Exim) or of sendmail.mc, or more words for the line with its
    /// listener (`OpenSMTPD`).
    pub fn setting(mut self, line: &str) -> Self {
        self.settings.push(line.to_owned());
        self
    }

    /// Listens here as well (Postfix only).
    pub fn listen_also(mut self, address: SocketAddrV6) -> Self {
        self.also = Some(address);
        self
    }

    /// One more line of master.cf (Postfix), or of the routers and transports that stand in place of the lab's (Exim).
    pub fn service(mut self, line: &str) -> Self {
        self.services.push(line.to_owned());
        self
    }

    /// A file it finds at `/` + `path`.
    pub fn file(mut self, path: &str, text: &str) -> Self {
        self.files.push((path.to_owned(), text.to_owned()));
        self
    }

    /// Starts it and waits until it answers.
    pub fn start(self) -> Mta {
        let daemon = match self.software {
            Software::Postfix => self.start_postfix(),
            Software::Exim => self.start_exim(),
            Software::OpenSmtpd => self.start_opensmtpd(),
            Software::Sendmail => self.start_sendmail(),
        };
        Mta {
            address: self.address,
            daemon,
        }
    }

    fn start_postfix(&self) -> Daemon {
        let state = State::new();
        state.write("etc/postfix/main.cf", &self.main_cf());
        let mut master = include_str!("../lab/postfix-master.cf.in").to_owned();
        if let Some(also) = self.also {
            let _ = writeln!(master, "{also} inet n - n - - smtpd");
        }
        for line in &self.services {
            let _ = writeln!(master, "{line}");
        }
        state.write("etc/postfix/master.cf", &self.fill(&master));
        let mut table = String::new();
        for (domain, next_hop) in &self.routes {
            let _ = writeln!(table, "{domain} {}", postfix_transport(*next_hop));
        }
        state.write("etc/postfix/transport", &table);
        state.write("etc/postfix/aliases", &self.aliases(" "));
        self.run(
            "postfix",
            state,
            &["postfix", "start-fg"],
            &["var/log/mail.log"],
        )
    }

    /// A parameter set twice is a warning from every process, and enough of those at the start make the log's own
    /// daemon wait for itself: a setting takes the place of the usual one.
    fn main_cf(&self) -> String {
        let usual = include_str!("../lab/postfix-main.cf.in").replace(
            "@DEFAULT_TRANSPORT@",
            &self.next_hop.map_or_else(
                || "error:5.4.4 this MTA has no next hop".to_owned(),
                postfix_transport,
            ),
        );
        let mut settings = self.settings.clone();
        if let Some(home) = &self.home {
            settings.extend([
                format!("mydestination = {}", home.domain),
                "myorigin = $mydestination".to_owned(),
                "local_transport = local:$myhostname".to_owned(),
                "alias_maps = texthash:/etc/postfix/aliases".to_owned(),
                format!("mailbox_transport = lmtp:inet:{}", home.store),
            ]);
        }
        if self.one_recipient {
            settings.push("smtp_destination_recipient_limit = 1".to_owned());
        }
        let name = |line: &str| line.split('=').next().map(|name| name.trim().to_owned());
        let set: Vec<_> = settings.iter().map(|line| name(line)).collect();
        let kept = usual.lines().filter(|line| !set.contains(&name(line)));
        let settings = settings.iter().map(String::as_str);
        self.fill(&(kept.chain(settings).collect::<Vec<_>>().join("\n") + "\n"))
    }

    /// The table of aliases, `separator` between a name and what it stands for.
    fn aliases(&self, separator: &str) -> String {
        let aliases = self.home.iter().flat_map(|home| &home.aliases);
        let line = |(name, members): &(String, String)| format!("{name}{separator}{members}\n");
        aliases.map(line).collect()
    }

    fn start_exim(&self) -> Daemon {
        assert!(self.local_domain.is_empty(), "Exim only relays here");
        let mut routers = String::new();
        if let Some(home) = &self.home {
            let text = include_str!("../lab/exim-home.conf.in").replace("@DOMAIN@", &home.domain);
            let store = exim_router(NextHop::Lmtp(home.store));
            let _ = writeln!(
                routers,
                "{text}users:\n{store}  domains = {}\n",
                home.domain
            );
        }
        for (count, (domain, next_hop)) in self.routes.iter().enumerate() {
            let _ = writeln!(
                routers,
                "route{count}:\n{}  domains = {domain}\n",
                exim_router(*next_hop)
            );
        }
        if let Some(next_hop) = self.next_hop {
            let _ = writeln!(routers, "rest:\n{}", exim_router(next_hop));
        }
        let state = State::new();
        let text = include_str!("../lab/exim.conf.in");
        let text = self
            .exim_sections(text)
            .replace("@SETTINGS@", &self.settings.join("\n"))
            .replace("@DSN@", if self.without_dsn { "" } else { "*" })
            .replace("@MAX_RCPT@", if self.one_recipient { "1" } else { "100" })
            .replace("@ROUTERS@", &routers);
        state.write("etc/exim4/exim4.conf", &self.fill(&text));
        state.write("etc/aliases", &self.aliases(": "));
        self.run(
            "exim",
            state,
            &["exim4", "-bdf", "-q1s"],
            &["var/log/exim4/mainlog", "var/log/exim4/paniclog"],
        )
    }

    fn exim_sections(&self, template: &str) -> String {
        let Some((before, sections)) = template.split_once("begin routers\n") else {
            return template.to_owned();
        };
        let (_, after) = sections.split_once("begin retry\n").unwrap_or_default();
        match self.services.as_slice() {
            [] => template.to_owned(),
            lines => format!("{before}{}\nbegin retry\n{after}", lines.join("\n")),
        }
    }

    fn start_opensmtpd(&self) -> Daemon {
        let state = State::new();
        let next_hop = self.only_next_hop().to_string();
        let home = self.home.as_ref().map_or_else(String::new, |home| {
            include_str!("../lab/smtpd-home.conf.in")
                .replace("@DOMAIN@", &home.domain)
                .replace("@STORE@", &home.store.to_string())
        });
        state.write("etc/aliases", &self.aliases(": "));
        let text = include_str!("../lab/smtpd.conf.in")
            .replace("@SETTINGS@", &self.settings.join(" "))
            .replace("@HOME@\n", &home)
            .replace("@NEXT_HOP@", &next_hop);
        state.write("etc/smtpd.conf", &self.fill(&text));
        self.run("opensmtpd", state, &["smtpd", "-d"], &[])
    }

    fn start_sendmail(&self) -> Daemon {
        let state = State::new();
        let (to, lmtp) = match self.only_next_hop() {
            NextHop::Smtp(to) => (to, "dnl"),
            NextHop::Lmtp(to) => (to, "MODIFY_MAILER_FLAGS(`RELAY', `+z')dnl"),
        };
        let local = self.home.as_ref().map_or_else(
            || "`/usr/libexec/sendmail/mail.local'".to_owned(),
            |home| format!("`[IPC]', `TCP [{}] {}'", home.store.ip(), home.store.port()),
        );
        let text = include_str!("../lab/sendmail.mc.in")
            .replace("@SETTINGS@", &self.settings.join("\n"))
            .replace("@LOCAL@", &local)
            .replace(
                "@DOMAIN@",
                self.home.as_ref().map_or("", |home| &home.domain),
            )
            .replace("@MAX_RCPT@", if self.one_recipient { "1" } else { "100" })
            .replace("@NEXT_IP@", &to.ip().to_string())
            .replace("@NEXT_PORT@", &to.port().to_string())
            .replace("@LMTP@", lmtp);
        state.write("etc/mail/sendmail.mc", &self.fill(&text));
        state.write("etc/mail/access", "Connect:127 RELAY\n");
        state.write("etc/mail/aliases", &self.aliases(": "));
        state.write("etc/mail/local-host-names", "");
        state.write("etc/mail/service.switch", "hosts files\naliases files\n");
        state.write("etc/mail/start", include_str!("../lab/sendmail.sh"));
        self.run(
            "sendmail",
            state,
            &["bash", "/etc/mail/start"],
            &["var/log/traffic"],
        )
    }

    /// For software that is set up here without routes.
    fn only_next_hop(&self) -> NextHop {
        let plain = self.routes.is_empty() && self.local_domain.is_empty();
        assert!(plain, "it only relays here");
        self.next_hop.expect("a relay has a next hop")
    }

    fn fill(&self, template: &str) -> String {
        template
            .replace("@HOSTNAME@", &self.hostname)
            .replace("@LISTEN@", &self.address.to_string())
            .replace("@ADDRESS@", &self.address.ip().to_string())
            .replace("@PORT@", &self.address.port().to_string())
            .replace("@LOCAL_DOMAIN@", &self.local_domain)
    }

    fn run(&self, name: &str, state: State, command: &[&str], logs: &[&str]) -> Daemon {
        for (path, text) in &self.files {
            state.write(path, text);
        }
        let package = package("mtas", name);
        Daemon::start(&package, &self.hostname, self.address, state, command, logs)
    }
}

fn postfix_transport(next_hop: NextHop) -> String {
    match next_hop {
        NextHop::Smtp(to) => format!("smtp:[{}]:{}", to.ip(), to.port()),
        NextHop::Lmtp(to) => format!("lmtp:inet:{to}"),
    }
}

fn exim_router(next_hop: NextHop) -> String {
    let (to, transport) = match next_hop {
        NextHop::Smtp(to) => (to, "out_smtp"),
        NextHop::Lmtp(to) => (to, "out_lmtp"),
    };
    format!(
        "  driver = manualroute\n  transport = {transport}\n  route_list = * {}::{}\n  self = send\n",
        to.ip(),
        to.port()
    )
}

/// All four: `mx.p.test` is Postfix, `mx.e.test` Exim, `mx.o.test` `OpenSMTPD`, `mx.s.test` Sendmail.
pub fn all() -> [Setup; 4] {
    [
        Mta::postfix("mx.p.test"),
        Mta::exim("mx.e.test"),
        Mta::opensmtpd("mx.o.test"),
        Mta::sendmail("mx.s.test"),
    ]
}

/// Starts MTAs side by side: each takes a second or two, most of it waiting.
pub fn start_all<const N: usize>(setups: [Setup; N]) -> [Mta; N] {
    thread::scope(|scope| {
        setups
            .map(|setup| scope.spawn(move || setup.start()))
            .map(|starting| starting.join().expect("the MTA starts"))
    })
}
