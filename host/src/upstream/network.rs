//! Which networks requests may go to, asked of every address that a name resolves to.
//!
//! The addresses that were checked are the ones that are dialled: there is no second lookup, so a name that changes its
//! answer gains nothing.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
    sync::Arc,
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::origin::{BaseUrl, BaseUrlError, Host, Origin, Scheme, embedded};

/// A range of addresses, such as `10.0.0.0/8`. It prints as it parses.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Network {
    first: IpAddr,
    bits: u8,
}

impl Network {
    const fn v4(a: u8, b: u8, c: u8, d: u8, bits: u8) -> Self {
        Self { first: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), bits }
    }

    const fn v6(first: [u16; 8], bits: u8) -> Self {
        let [a, b, c, d, e, f, g, h] = first;
        Self { first: IpAddr::V6(Ipv6Addr::new(a, b, c, d, e, f, g, h)), bits }
    }

    /// True for an address of the same family in the range.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        // A shift by the whole width leaves nothing to compare: `/0` holds every address of its family.
        match (self.first, address) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                let differing = first.to_bits() ^ address.to_bits();
                differing.checked_shr(32 - u32::from(self.bits)).is_none_or(|high| high == 0)
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                let differing = first.to_bits() ^ address.to_bits();
                differing.checked_shr(128 - u32::from(self.bits)).is_none_or(|high| high == 0)
            }
            _ => false,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Network {
    type Err = NetworkPolicyError;

    fn from_str(text: &str) -> Result<Self, NetworkPolicyError> {
        let invalid = || NetworkPolicyError { entry: text.to_owned() };
        let (first, bits) = text.split_once('/').map_or((text, None), |(first, bits)| (first, Some(bits)));
        let first: IpAddr = first.parse().map_err(|_| invalid())?;
        let width = if first.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(width), str::parse).map_err(|_| invalid())?;
        let shift = u32::from(128 - bits.min(128));
        let value = match first {
            IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
            IpAddr::V6(address) => address.to_bits(),
        };
        // Bits behind the prefix are a slip of the pen, and could mean a wider range than was wanted.
        let behind = value & 1_u128.checked_shl(shift).map_or(u128::MAX, |end| end - 1);
        if bits > width || behind != 0 {
            return Err(invalid());
        }
        Ok(Self { first, bits })
    }
}

/// Where credentials of a whole cloud account are served, link-local networks among them. No setting opens these.
const NEVER: &[Network] = &[
    Network::v4(169, 254, 0, 0, 16),
    Network::v4(100, 100, 100, 200, 32),
    Network::v4(168, 63, 129, 16, 32),
    Network::v4(192, 0, 0, 192, 32),
    Network::v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10),
    Network::v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128),
    Network::v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128),
];

const LOOPBACK: &[Network] = &[Network::v4(127, 0, 0, 0, 8), Network::v6([0, 0, 0, 0, 0, 0, 0, 1], 128)];

/// Networks that are not the internet. Closed unless the operator lists them.
const PRIVATE: &[Network] = &[
    Network::v4(0, 0, 0, 0, 8),
    Network::v4(10, 0, 0, 0, 8),
    Network::v4(100, 64, 0, 0, 10),
    Network::v4(172, 16, 0, 0, 12),
    Network::v4(192, 0, 0, 0, 24),
    Network::v4(192, 168, 0, 0, 16),
    Network::v4(198, 18, 0, 0, 15),
    Network::v4(224, 0, 0, 0, 4),
    Network::v4(240, 0, 0, 0, 4),
    // Unspecified, and addresses that hold an IPv4 address inside.
    Network::v6([0, 0, 0, 0, 0, 0, 0, 0], 96),
    Network::v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96),
    Network::v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96),
    Network::v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48),
    Network::v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32),
    Network::v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16),
    Network::v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7),
    Network::v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10),
    Network::v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8),
];

/// An address where requests do not go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Metadata and link-local networks.
    #[error("{0} is a metadata or link-local address, where requests never go")]
    Never(IpAddr),
    /// This machine, under a name that does not say so.
    #[error("{0} is this machine, where requests go only under the name localhost or its own address")]
    Loopback(IpAddr),
    /// `localhost`, leading elsewhere.
    #[error("localhost leads to {0}, which is not this machine")]
    NotLoopback(IpAddr),
    /// A private network that the operator does not list.
    #[error("{0} is in a private network, where requests go only when the operator lists it")]
    Private(IpAddr),
}

/// An entry of the operator's list that is neither a network nor an origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{entry} is neither a network such as 10.0.0.0/8 nor an origin such as http://gateway.internal:8080")]
pub struct NetworkPolicyError {
    /// The entry as it was written.
    pub entry: String,
}

/// What the operator opens beyond the public internet over TLS and this machine. Empty by default.
#[derive(Debug, Clone, Default)]
pub struct NetworkPolicy {
    /// Private networks where requests may go.
    networks: Vec<Network>,
    /// Origins that may be spoken to in clear text.
    cleartext: Vec<Origin>,
}

impl NetworkPolicy {
    /// Reads the operator's list: networks such as `10.0.0.0/8` open private addresses; origins such as
    /// `http://gateway.internal:8080` may be spoken to in clear text. One does not imply the other.
    ///
    /// # Errors
    /// Names the first entry that is neither.
    pub fn parse<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<Self, NetworkPolicyError> {
        let mut policy = Self::default();
        for entry in entries {
            if !entry.contains("://") {
                policy.networks.push(entry.parse()?);
                continue;
            }
            let origin = entry.parse::<BaseUrl>().ok().filter(|base| base.prefix().is_empty());
            let origin = origin.map(|base| base.origin()).filter(|origin| origin.scheme() == Scheme::Http);
            policy.cleartext.push(origin.ok_or_else(|| NetworkPolicyError { entry: entry.to_owned() })?);
        }
        Ok(policy)
    }

    /// Whether requests may go to a base URL, as far as can be said without asking what its name resolves to.
    ///
    /// # Errors
    /// `CleartextRefused`, or `Denied` for a host that is an address.
    pub fn admits(&self, base: &BaseUrl) -> Result<(), BaseUrlError> {
        let origin = base.origin();
        if let Host::Address(address) = *origin.host() {
            // The resolver is never asked about an address, so this is the only check of it.
            self.admits_address(origin.host(), address)?;
        }
        match origin.scheme() {
            Scheme::Http if !origin.host().is_loopback() && !self.cleartext.contains(&origin) => {
                Err(BaseUrlError::CleartextRefused(origin))
            }
            Scheme::Http | Scheme::Https => Ok(()),
        }
    }

    /// Whether requests to a host may go to an address.
    pub(super) fn admits_address(&self, host: &Host, address: IpAddr) -> Result<(), Denied> {
        let within = |networks: &[Network]| networks.iter().any(|network| network.contains(address));
        if host.is_loopback() {
            return if within(LOOPBACK) { Ok(()) } else { Err(Denied::NotLoopback(address)) };
        }
        if within(NEVER) {
            return Err(Denied::Never(address));
        }
        if within(LOOPBACK) {
            return Err(Denied::Loopback(address));
        }
        if within(PRIVATE) && !within(&self.networks) {
            return Err(Denied::Private(address));
        }
        match address {
            IpAddr::V6(v6) => embedded(v6).map_or(Ok(()), |inner| self.admits_address(host, inner.into())),
            IpAddr::V4(_) => Ok(()),
        }
    }

    /// All of a name's addresses, or the reason why one of them is refused. A mixed answer is refused as a whole.
    fn admitted(&self, name: &str, addresses: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Denied> {
        let host = Host::Name(name.to_ascii_lowercase());
        addresses.iter().try_for_each(|address| self.admits_address(&host, address.ip()))?;
        Ok(addresses)
    }
}

/// The system's resolver behind the policy.
pub(super) struct Resolver(pub(super) Arc<NetworkPolicy>);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = Arc::clone(&self.0);
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let admitted: Addrs = Box::new(policy.admitted(name.as_str(), found)?.into_iter());
            Ok(admitted)
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn named(policy: &NetworkPolicy, name: &str, addresses: &[&str]) -> Result<usize, Denied> {
        let found = addresses.iter().map(|text| SocketAddr::new(address(text), 443)).collect();
        policy.admitted(name, found).map(|admitted| admitted.len())
    }

    const PRIVATE_ADDRESSES: &[&str] = &[
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "10.255.255.255",
        "100.64.0.1",
        "100.127.255.255",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.1",
        "192.168.0.1",
        "198.18.0.1",
        "198.19.255.255",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::8.8.8.8",
        "::ffff:8.8.8.8",
        "::ffff:127.0.0.1",
        "64:ff9b::8.8.8.8",
        "64:ff9b:1::1",
        "2001::1",
        "2002:808:808::1",
        "fc00::1",
        "fd12:3456::1",
        "fec0::1",
        "ff02::1",
    ];
    const NEVER_ADDRESSES: &[&str] = &[
        "169.254.169.254",
        "169.254.0.1",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fe80::1",
        "febf::1",
        "fd00:ec2::254",
        "fd20:ce::254",
    ];
    const PUBLIC_ADDRESSES: &[&str] = &[
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "172.15.0.1",
        "172.32.0.0",
        "192.169.0.0",
        "198.17.0.1",
        "198.20.0.0",
        "223.255.255.255",
        "2606:4700::1111",
        "2a00:1450::1",
    ];

    #[test]
    fn a_name_leads_to_the_public_internet_alone() {
        let policy = NetworkPolicy::default();
        for text in PRIVATE_ADDRESSES {
            assert_eq!(named(&policy, "api.example.com", &[text]), Err(Denied::Private(address(text))), "{text}");
            assert_eq!(named(&policy, "api.example.com", &["1.1.1.1", text]), Err(Denied::Private(address(text))));
        }
        for text in NEVER_ADDRESSES {
            assert_eq!(named(&policy, "api.example.com", &[text]), Err(Denied::Never(address(text))), "{text}");
        }
        for text in ["127.0.0.1", "127.255.255.254", "::1"] {
            assert_eq!(named(&policy, "api.example.com", &[text]), Err(Denied::Loopback(address(text))), "{text}");
        }
        assert_eq!(named(&policy, "api.example.com", PUBLIC_ADDRESSES), Ok(PUBLIC_ADDRESSES.len()));
    }

    #[test]
    fn an_address_as_host_is_checked_like_one_that_was_looked_up() {
        let policy = NetworkPolicy::default();
        for text in PRIVATE_ADDRESSES.iter().chain(NEVER_ADDRESSES) {
            let url = if text.contains(':') { format!("https://[{text}]") } else { format!("https://{text}") };
            assert!(matches!(BaseUrl::parse(&url, &policy), Err(BaseUrlError::Denied(_))), "{url}");
        }
    }

    #[test]
    fn localhost_is_this_machine_and_nothing_else() {
        let policy = NetworkPolicy::parse(["10.0.0.0/8"]).unwrap();
        assert_eq!(named(&policy, "localhost", &["127.0.0.1", "::1"]), Ok(2));
        for text in ["10.0.0.1", "1.1.1.1", "169.254.169.254"] {
            assert_eq!(named(&policy, "LocalHost", &["127.0.0.1", text]), Err(Denied::NotLoopback(address(text))));
        }
    }

    #[test]
    fn the_operator_opens_private_networks_but_no_metadata() {
        let everything = NetworkPolicy::parse(["0.0.0.0/0", "::/0"]).unwrap();
        for text in PRIVATE_ADDRESSES.iter().filter(|text| !text.ends_with(":127.0.0.1")) {
            assert_eq!(named(&everything, "gateway.internal", &[text]), Ok(1), "{text}");
        }
        for text in NEVER_ADDRESSES {
            assert_eq!(named(&everything, "gateway.internal", &[text]), Err(Denied::Never(address(text))), "{text}");
        }
        for inner in ["::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "::169.254.169.254"] {
            let denied = named(&everything, "gateway.internal", &[inner]);
            assert_eq!(denied, Err(Denied::Never(address("169.254.169.254"))), "{inner}");
        }
        let loopback = named(&everything, "gateway.internal", &["::ffff:127.0.0.1"]);
        assert_eq!(loopback, Err(Denied::Loopback(address("127.0.0.1"))));
        let nat64 = NetworkPolicy::parse(["64:ff9b::/96"]).unwrap();
        assert_eq!(named(&nat64, "api.example.com", &["64:ff9b::8.8.8.8"]), Ok(1));
        let inner = named(&nat64, "api.example.com", &["64:ff9b::10.0.0.1"]);
        assert_eq!(inner, Err(Denied::Private(address("10.0.0.1"))));
    }

    #[test]
    fn a_network_prints_as_it_parses_and_holds_its_edges() {
        for text in ["10.0.0.0/8", "192.168.1.1/32", "0.0.0.0/0", "fc00::/7", "::/0", "fd00:ec2::254/128"] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
        }
        assert_eq!("10.1.2.3".parse::<Network>().unwrap().to_string(), "10.1.2.3/32");
        let network: Network = "172.16.0.0/12".parse().unwrap();
        for (text, within) in [
            ("172.16.0.0", true),
            ("172.31.255.255", true),
            ("172.32.0.0", false),
            ("172.15.255.255", false),
            ("::ffff:172.16.0.1", false),
        ] {
            assert_eq!(network.contains(address(text)), within, "{text}");
        }
    }

    #[test]
    fn an_entry_that_is_neither_network_nor_origin_is_named() {
        let entries = [
            "",
            "10.0.0.1/8",
            "10.0.0.0/33",
            "10.0.0.0/-1",
            "10.0.0/8",
            "::1/129",
            "10.0.0.0/8/8",
            "gateway",
            "https://a.com",
            "http://a.com/v1",
            "http://u@a.com",
            "256.0.0.0/8",
        ];
        for entry in entries {
            let error = NetworkPolicy::parse(["10.0.0.0/8", entry]).unwrap_err();
            assert_eq!(error.entry, entry);
        }
    }
}
