//! Certificates of all kinds, made anew for each test.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SerialNumber, date_time_ymd,
};

use crate::program::scratch;

/// A folder with an authority and what it has signed. Removed with the value.
pub(crate) struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, as files.
pub(crate) struct Certificate {
    pub(crate) file: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    /// A new authority, with its certificate in `ca.crt`.
    pub(crate) fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = scratch().join(format!("certificates-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder can be made");
        let mut params = params(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.self_signed(&key).expect("a certificate can be made");
        write(&folder.join("ca.crt"), &certificate.pem());
        Self { folder, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// A certificate for a server on this machine.
    pub(crate) fn server(&self) -> Certificate {
        let mut params = CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()])
            .expect("the names are valid");
        params.distinguished_name.push(DnType::CommonName, "localhost");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign("server", &params)
    }

    /// A certificate for a client with this common name.
    pub(crate) fn client(&self, name: &str) -> Certificate {
        self.sign(name, &client_params(name))
    }

    /// The same, from 2001.
    pub(crate) fn expired(&self, name: &str) -> Certificate {
        let mut params = client_params(name);
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(2001, 1, 1);
        self.sign(name, &params)
    }

    /// The same, and the list that revokes it.
    pub(crate) fn revoked(&self, name: &str) -> (Certificate, PathBuf) {
        let serial = SerialNumber::from(4711_u64);
        let mut params = client_params(name);
        params.serial_number = Some(serial.clone());
        let revoked = RevokedCertParams {
            serial_number: serial,
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2099, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).expect("a list can be signed");
        let file = self.folder.join("ca.crl");
        write(&file, &list.pem().expect("a list can be written"));
        (self.sign(name, &params), file)
    }

    /// A certificate that only its own key has signed.
    pub(crate) fn self_signed(&self, name: &str) -> Certificate {
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = client_params(name).self_signed(&key).expect("it can be made");
        self.write(name, &certificate.pem(), &key)
    }

    fn sign(&self, name: &str, params: &CertificateParams) -> Certificate {
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.signed_by(&key, &self.issuer).expect("it can be signed");
        self.write(name, &certificate.pem(), &key)
    }

    fn write(&self, name: &str, certificate: &str, key: &KeyPair) -> Certificate {
        let (file, key_file) =
            (self.folder.join(format!("{name}.crt")), self.folder.join(format!("{name}.key")));
        write(&file, certificate);
        write(&key_file, &key.serialize_pem());
        Certificate { file, key: key_file }
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        // What stays behind is in the target folder.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.distinguished_name.push(DnType::OrganizationName, "Home");
    params.distinguished_name.push(DnType::CountryName, "DE");
    params
}

fn client_params(name: &str) -> CertificateParams {
    let mut params = params(name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn write(file: &Path, text: &str) {
    std::fs::write(file, text).expect("a file can be written");
}
