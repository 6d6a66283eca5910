use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::x509::X509Name;

use crate::config::UserName;

/// The user name in a client's certificate: its common name, or its whole subject.
///
/// `None` when there is none, or one that cannot be put into an ACL without changing its meaning.
pub(super) fn user_name(certificate: &[u8], kind: UserName) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let name = match kind {
        UserName::Connect => return None,
        UserName::CommonName => {
            let mut names = certificate.subject().iter_common_name();
            let name = names.next()?.as_str().ok()?.to_owned();
            // Two common names: nobody can tell which of them an ACL is about.
            if names.next().is_some() {
                return None;
            }
            name
        }
        UserName::Subject => subject(certificate.subject())?,
    };
    let harmless = !name.is_empty() && !name.contains(['\0', '+', '#', '/']);
    harmless.then_some(name)
}

/// The subject as OpenSSL prints it for RFC 2253, which Mosquitto's ACL files have: its parts from the
/// last to the first, in most certificates `CN=client,O=Home,C=DE`.
fn subject(name: &X509Name<'_>) -> Option<String> {
    let mut parts = Vec::new();
    for attribute in name.iter_attributes() {
        let kind = match attribute.attr_type().to_id_string().as_str() {
            "2.5.4.3" => "CN",
            "2.5.4.4" => "SN",
            "2.5.4.5" => "serialNumber",
            "2.5.4.6" => "C",
            "2.5.4.7" => "L",
            "2.5.4.8" => "ST",
            "2.5.4.9" => "street",
            "2.5.4.10" => "O",
            "2.5.4.11" => "OU",
            "2.5.4.12" => "title",
            "0.9.2342.19200300.100.1.1" => "UID",
            "0.9.2342.19200300.100.1.25" => "DC",
            "1.2.840.113549.1.9.1" => "emailAddress",
            // Under a number that nobody would write into an ACL file.
            _ => return None,
        };
        parts.push(format!("{kind}={}", escaped(attribute.as_str().ok()?)));
    }
    parts.reverse();
    Some(parts.join(","))
}

/// What would end a part is escaped, so that no name can look like two.
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (at, character) in value.chars().enumerate() {
        let at_an_end =
            (character == ' ' && (at == 0 || at == last)) || (character == '#' && at == 0);
        if at_an_end || matches!(character, ',' | '+' | '"' | '\\' | '<' | '>' | ';') {
            text.push('\\');
        }
        text.push(character);
    }
    text
}
