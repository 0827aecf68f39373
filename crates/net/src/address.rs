//! Where a listener is, in the forms that people write.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Longest path of a Unix socket, in bytes: `sun_path` of Linux less its ending zero.
const UNIX_PATH_BYTES_MAX: usize = 107;
/// Longest name of a host, in bytes (RFC 1035).
const HOST_BYTES_MAX: usize = 253;

/// Where to listen or to connect.
///
/// ```
/// use outlast_net::Address;
///
/// let v4: Address = "192.0.2.7:3300".parse()?;
/// let v6: Address = "[2001:db8::1]:3300".parse()?;
/// let name: Address = "storage.example:3300".parse()?;
/// let unix: Address = "unix:/run/outlast.sock".parse()?;
/// assert_eq!(v6.to_string(), "[2001:db8::1]:3300");
/// assert!("storage.example".parse::<Address>().is_err(), "a port is needed");
/// # Ok::<(), outlast_net::AddressError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// TCP to an IPv4 or IPv6 address.
    Ip(SocketAddr),
    /// TCP to a host's name, looked up anew for each attempt to connect: the answer may change with the network.
    Name {
        /// The name, or an IPv6 address with the name of its interface (`fe80::1%eth0`).
        host: String,
        /// The port.
        port: u16,
    },
    /// A Unix socket of this machine. Empty for the unnamed end of one.
    Unix(PathBuf),
}

/// What is wrong with a text that should be an [`Address`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// No port was given, and none goes without saying.
    #[error("no port in \"{0}\": write HOST:PORT, [IPV6]:PORT or unix:/PATH")]
    NoPort(String),
    /// The port is no number up to 65535.
    #[error("\"{0}\" has no valid port: it must be a number up to 65535")]
    Port(String),
    /// The host is empty or too long, or has characters that no name has.
    #[error("\"{0}\" is not the name or address of a host{hint}", hint = brackets(.0))]
    Host(String),
    /// The path of a Unix socket is empty or too long.
    #[error("a Unix socket needs a path of 1 to {UNIX_PATH_BYTES_MAX} bytes")]
    UnixPath,
}

fn brackets(host: &str) -> &'static str {
    if host.contains(['[', ']']) { ": brackets come in pairs, around an IPv6 address" } else { "" }
}

impl Address {
    /// As `parse`, for texts that may leave the port away: `HOST`, `[IPV6]`, `IPV6`.
    ///
    /// # Errors
    /// The text is none of the forms.
    pub fn parse_with_port(text: &str, default_port: u16) -> Result<Self, AddressError> {
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self::Ip(SocketAddr::new(ip, default_port)));
        }
        match text.parse() {
            Err(AddressError::NoPort(_)) => Self::host(text, default_port),
            other => other,
        }
    }

    fn host(host: &str, port: u16) -> Result<Self, AddressError> {
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        if let Some(bare) = bare {
            // Brackets are for IPv6; a scope may be a name, which only the system can resolve.
            let address = bare.split('%').next().unwrap_or_default();
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(AddressError::Host(host.to_owned()));
            }
            // A scope that is a number needs nobody to resolve it.
            if let Ok(address) = format!("{host}:{port}").parse() {
                return Ok(Self::Ip(address));
            }
        }
        let name = bare.unwrap_or(host);
        if let Ok(ip) = name.parse::<IpAddr>() {
            return Ok(Self::Ip(SocketAddr::new(ip, port)));
        }
        let bad = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | '[' | ']' | '@');
        let colon = bare.is_none() && name.contains(':');
        // With a port behind it, a host of this name would read as a path.
        let path = name == "unix";
        if name.is_empty() || name.len() > HOST_BYTES_MAX || name.contains(bad) || colon || path {
            return Err(AddressError::Host(host.to_owned()));
        }
        Ok(Self::Name { host: name.to_owned(), port })
    }

    /// The address, if it is written as one and not as a name or a path.
    #[must_use]
    pub const fn ip(&self) -> Option<SocketAddr> {
        match self {
            Self::Ip(address) => Some(*address),
            Self::Name { .. } | Self::Unix(_) => None,
        }
    }

    /// The path of a Unix socket.
    #[must_use]
    pub fn unix_path(&self) -> Option<&Path> {
        match self {
            Self::Unix(path) => Some(path),
            Self::Ip(_) | Self::Name { .. } => None,
        }
    }

    /// Reaches nobody outside this machine: a loopback address, `localhost` or a Unix socket.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Ip(address) => address.ip().to_canonical().is_loopback(),
            Self::Name { host, .. } => host.eq_ignore_ascii_case("localhost"),
            Self::Unix(_) => true,
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("unix:") {
            if path.is_empty() || path.len() > UNIX_PATH_BYTES_MAX || path.contains('\0') {
                return Err(AddressError::UnixPath);
            }
            return Ok(Self::Unix(PathBuf::from(path)));
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self::Ip(address));
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(|| AddressError::NoPort(text.to_owned()))?;
        let unfinished_v6 = host.contains(':') && !host.ends_with(']');
        if unfinished_v6 || (text.starts_with('[') && text.ends_with(']')) {
            return Err(AddressError::NoPort(text.to_owned()));
        }
        let port = port.parse().map_err(|_| AddressError::Port(text.to_owned()))?;
        Self::host(host, port)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Name { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Ip(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_comes_back_as_it_was() {
        for text in [
            "127.0.0.1:3300",
            "[::1]:3300",
            "[fe80::1%2]:7",
            "[fe80::1%eth0]:7",
            "example.org:0",
            "host_1:65535",
            "unix:/run/a b.sock",
            "unix:relative",
        ] {
            let address: Address = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_told_apart() {
        let parse = |text: &str| text.parse::<Address>().unwrap_err();
        assert_eq!(parse("host"), AddressError::NoPort("host".into()));
        assert_eq!(parse("[::1]"), AddressError::NoPort("[::1]".into()));
        assert_eq!(parse("::1"), AddressError::NoPort("::1".into()));
        assert_eq!(parse("host:http"), AddressError::Port("host:http".into()));
        assert_eq!(parse("host:65536"), AddressError::Port("host:65536".into()));
        assert_eq!(parse(":80"), AddressError::Host(String::new()));
        assert_eq!(parse("a b:80"), AddressError::Host("a b".into()));
        assert_eq!(parse("[host]:80"), AddressError::Host("[host]".into()));
        assert_eq!(parse("unix:"), AddressError::UnixPath);
        assert_eq!(parse(&format!("unix:/{}", "x".repeat(107))), AddressError::UnixPath);
        assert_eq!(parse(&format!("{}:1", "x".repeat(254))), AddressError::Host("x".repeat(254)));
    }

    #[test]
    fn a_port_can_go_without_saying() {
        let parse = |text: &str| Address::parse_with_port(text, 9).map(|a| a.to_string());
        assert_eq!(parse("host").as_deref(), Ok("host:9"));
        assert_eq!(parse("host:1").as_deref(), Ok("host:1"));
        assert_eq!(parse("10.0.0.1").as_deref(), Ok("10.0.0.1:9"));
        assert_eq!(parse("::1").as_deref(), Ok("[::1]:9"));
        assert_eq!(parse("[::1]").as_deref(), Ok("[::1]:9"));
        assert_eq!(parse("[::1]:1").as_deref(), Ok("[::1]:1"));
        let scoped = "[fe80::1%2]:9".parse().map(Address::Ip).map_err(|_| AddressError::UnixPath);
        assert_eq!(Address::parse_with_port("[fe80::1%2]", 9), scoped);
        assert_eq!(parse("unix:/x").as_deref(), Ok("unix:/x"));
        assert_eq!(parse("host:x"), Err(AddressError::Port("host:x".into())));
        assert_eq!(parse("unix"), Err(AddressError::Host("unix".into())));
    }

    #[test]
    fn brackets_come_in_pairs_and_around_ipv6_alone() {
        for text in
            ["[::1", "::1]", "[[::1]]", "[[::1]", "[10.0.0.1]", "[10.0.0.1", "10.0.0.1]", "[host", "[]"]
        {
            let error = Address::parse_with_port(text, 9).expect_err(text);
            assert_eq!(error, AddressError::Host(text.into()));
            assert!(error.to_string().ends_with("brackets come in pairs, around an IPv6 address"), "{error}");
        }
        for text in ["[::1:9", "::1]:9", "[[::1]]:9", "[10.0.0.1]:9", "[10.0.0.1:9", "[]:9"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
            assert!(Address::parse_with_port(text, 7).is_err(), "{text}");
        }
    }

    #[test]
    fn only_this_machine_is_loopback() {
        let is = |text: &str| text.parse::<Address>().expect("valid").is_loopback();
        assert!(
            is("127.3.2.1:1")
                && is("[::1]:1")
                && is("[::ffff:127.0.0.1]:1")
                && is("localhost:1")
                && is("unix:x")
        );
        assert!(!is("0.0.0.0:1") && !is("[::]:1") && !is("192.0.2.1:1") && !is("localhost.example:1"));
    }
}
