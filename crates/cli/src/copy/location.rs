//! `HOST[:PORT]:PATH`: where a copy comes from or goes to.

use crate::access::DEFAULT_PORT;
use outlast::Address;
use std::ffi::{OsStr, OsString};
use std::net::Ipv6Addr;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

/// An address has no more; what follows is a path.
const IPV6_COLONS_MAX: usize = 8;

/// One side of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Location {
    /// On this machine.
    Local(PathBuf),
    /// Below the folder that is served there.
    Remote(Address, PathBuf),
}

/// Reads a location as the user wrote it. As with scp and rsync it is remote if there is a colon before any slash; a local
/// file with a colon in its name is written `./a:b`.
pub(crate) fn parse(text: &OsStr) -> Result<Location, String> {
    let bytes = text.as_bytes();
    if bytes.is_empty() {
        return Err("an empty path".to_owned());
    }
    if let Some(rest) = bytes.strip_prefix(b"unix:") {
        let end = find(rest, b':')
            .ok_or("write unix:/SOCKET:PATH, with a path (or nothing) behind the second colon")?;
        let address = Address::Unix(PathBuf::from(OsString::from_vec(rest[..end].to_vec())));
        return Ok(Location::Remote(address, remote_path(&rest[end + 1..])));
    }
    let host_end = if bytes[0] == b'[' {
        let close = find(bytes, b']').ok_or("a bracket that is not closed")?;
        if bytes.get(close + 1) != Some(&b':') {
            return Err("write [IPV6]:PATH or [IPV6]:PORT:PATH".to_owned());
        }
        close + 1
    } else {
        match find(bytes, b':') {
            Some(colon) if find(bytes, b'/').is_none_or(|slash| colon < slash) => colon,
            Some(_) | None => return Ok(Location::Local(PathBuf::from(text))),
        }
    };
    if bytes[0] != b'[' && begins_with_ipv6(bytes) {
        return Err("write an IPv6 address in brackets: [IPV6]:PATH or [IPV6]:PORT:PATH".to_owned());
    }
    let rest = &bytes[host_end + 1..];
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (address, path) = if digits > 0 && rest.get(digits) == Some(&b':') {
        (&bytes[..host_end + 1 + digits], &rest[digits + 1..])
    } else {
        (&bytes[..host_end], rest)
    };
    let address = str::from_utf8(address).map_err(|_| "the name of the host is not UTF-8")?;
    let address = Address::parse_with_port(address, DEFAULT_PORT).map_err(|e| e.to_string())?;
    Ok(Location::Remote(address, remote_path(path)))
}

/// Whether what stands before one of the colons is an IPv6 address, so that nobody means the host before the first.
fn begins_with_ipv6(bytes: &[u8]) -> bool {
    let colons = bytes.iter().enumerate().filter(|(_, byte)| **byte == b':').map(|(at, _)| at);
    let heads = colons.filter_map(|at| str::from_utf8(&bytes[..at]).ok());
    heads.take(IPV6_COLONS_MAX + 1).any(|head| head.parse::<Ipv6Addr>().is_ok())
}

fn find(bytes: &[u8], wanted: u8) -> Option<usize> {
    bytes.iter().position(|&byte| byte == wanted)
}

/// The served folder is where a client's paths begin: with a slash in front or without.
fn remote_path(path: &[u8]) -> PathBuf {
    let start = path.iter().take_while(|&&byte| byte == b'/').count();
    match &path[start..] {
        // `HOST:` and `HOST:/` are the folder itself, into which or of which the contents are copied.
        b"" => PathBuf::from("."),
        path => PathBuf::from(OsString::from_vec(path.to_vec())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(text: &str) -> (String, String) {
        match parse(OsStr::new(text)).unwrap() {
            Location::Remote(address, path) => (address.to_string(), path.display().to_string()),
            Location::Local(path) => panic!("{} is local", path.display()),
        }
    }

    fn both(address: &str, path: &str) -> (String, String) {
        (address.to_owned(), path.to_owned())
    }

    #[test]
    fn an_ipv6_address_without_brackets_is_not_taken_for_a_host_and_a_path() {
        for text in ["fe80::1:/x", "::1:", "::1:99:a", "2001:db8:0:1:2:3:4:5:a"] {
            let error = parse(OsStr::new(text)).unwrap_err();
            assert!(error.contains("in brackets"), "{text}: {error}");
        }
        assert_eq!(remote("[fe80::1]:/x"), both("[fe80::1]:13300", "x"));
        assert_eq!(remote("host:::a"), both("host:13300", "::a"));
    }

    #[test]
    fn a_colon_before_any_slash_makes_it_remote() {
        assert_eq!(remote("host:a/b"), both("host:13300", "a/b"));
        assert_eq!(remote("host:"), both("host:13300", "."));
        assert_eq!(remote("host:/"), both("host:13300", "."));
        assert_eq!(remote("host:/a/"), both("host:13300", "a/"));
        assert_eq!(remote("host:99:a:b"), both("host:99", "a:b"));
        assert_eq!(remote("192.0.2.1:99:"), both("192.0.2.1:99", "."));
        // Digits without a second colon are a file's name.
        assert_eq!(remote("host:99"), both("host:13300", "99"));
    }

    #[test]
    fn addresses_with_colons_of_their_own_stand_in_brackets() {
        assert_eq!(remote("[2001:db8::1]:a"), both("[2001:db8::1]:13300", "a"));
        assert_eq!(remote("[::1]:99:a"), both("[::1]:99", "a"));
        assert!(parse(OsStr::new("[::1]")).is_err());
        assert!(parse(OsStr::new("[::1")).is_err());
    }

    #[test]
    fn a_socket_of_this_machine_is_a_host_too() {
        assert_eq!(remote("unix:/run/o.sock:a/b"), both("unix:/run/o.sock", "a/b"));
        assert!(parse(OsStr::new("unix:/run/o.sock")).is_err());
    }

    #[test]
    fn everything_else_is_local() {
        for text in ["a", "a/b:c", "./a:b", "/x:1:y", "..", "a b"] {
            assert_eq!(parse(OsStr::new(text)), Ok(Location::Local(PathBuf::from(text))));
        }
        assert!(parse(OsStr::new("")).is_err());
        assert!(parse(OsStr::new("host:99999:a")).is_err());
        assert!(parse(OsStr::new("ho st:a")).is_err());
    }
}
