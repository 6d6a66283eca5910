use rustls::SupportedCipherSuite;
use rustls::crypto::ring::ALL_CIPHER_SUITES;
use rustls::crypto::ring::cipher_suite as ring;
use tracing::warn;

use crate::config::Tls;

/// The cipher suites of TLS 1.2 that there are, by their names in OpenSSL. Weak ones are not among
/// them, whatever a list says.
const TLS_1_2: [(&str, SupportedCipherSuite); 6] = [
    ("ECDHE-ECDSA-AES256-GCM-SHA384", ring::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-ECDSA-AES128-GCM-SHA256", ring::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", ring::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("ECDHE-RSA-AES256-GCM-SHA384", ring::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-RSA-AES128-GCM-SHA256", ring::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-RSA-CHACHA20-POLY1305", ring::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
];

/// The same for TLS 1.3.
const TLS_1_3: [(&str, SupportedCipherSuite); 3] = [
    ("TLS_AES_256_GCM_SHA384", ring::TLS13_AES_256_GCM_SHA384),
    ("TLS_AES_128_GCM_SHA256", ring::TLS13_AES_128_GCM_SHA256),
    ("TLS_CHACHA20_POLY1305_SHA256", ring::TLS13_CHACHA20_POLY1305_SHA256),
];

/// The suites that a listener's lists leave, in our order.
pub(super) fn suites(options: &Tls) -> Vec<SupportedCipherSuite> {
    let of_1_2 = chosen("ciphers", options.ciphers.as_deref(), &TLS_1_2);
    let of_1_3 = chosen("ciphers_tls1.3", options.ciphers_1_3.as_deref(), &TLS_1_3);
    let mut suites = ALL_CIPHER_SUITES.to_vec();
    suites.retain(|suite| of_1_2.contains(suite) || of_1_3.contains(suite));
    suites
}

/// The suites that a list names. Where it names none that there is, as a list of OpenSSL's keywords
/// does, all are meant.
fn chosen(
    option: &str,
    list: Option<&str>,
    known: &[(&str, SupportedCipherSuite)],
) -> Vec<SupportedCipherSuite> {
    let names = list.unwrap_or_default().split([':', ',', ' ']).filter(|name| !name.is_empty());
    let mut suites = Vec::new();
    let mut others = Vec::new();
    for name in names {
        match known.iter().find(|(known, _)| *known == name) {
            Some((_, suite)) => suites.push(*suite),
            None => others.push(name),
        }
    }
    if !others.is_empty() {
        warn!("{option}: {} has no meaning here", others.join(", "));
    }
    if suites.is_empty() {
        suites.extend(known.iter().map(|(_, suite)| *suite));
    }
    suites
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_choose_and_keywords_do_not() {
        let choose = |list| chosen("ciphers", Some(list), &TLS_1_2);
        let two = choose("ECDHE-RSA-AES128-GCM-SHA256:AES128-SHA:ECDHE-ECDSA-AES128-GCM-SHA256");
        assert_eq!(two, [TLS_1_2[4].1, TLS_1_2[1].1]);
        for all in ["DEFAULT", "HIGH:!aNULL:@STRENGTH", "", "RC4-SHA"] {
            assert_eq!(choose(all).len(), 6, "{all}");
        }
        assert_eq!(
            chosen("ciphers", None, &TLS_1_2).len() + TLS_1_3.len(),
            ALL_CIPHER_SUITES.len()
        );
    }
}
