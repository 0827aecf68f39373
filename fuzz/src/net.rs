//! Addresses that a person types.

use outlast_net::Address;

/// An address as text, with a port or without.
pub fn net_address(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for parsed in [text.parse::<Address>(), Address::parse_with_port(text, 3300)] {
        let Ok(address) = parsed else { continue };
        let again = address.to_string();
        assert_eq!(again.parse::<Address>(), Ok(address.clone()), "read again: {again}");
        let _ = (address.ip(), address.unix_path(), address.is_loopback());
    }
}
