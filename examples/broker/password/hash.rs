use std::fmt;
use std::str::FromStr;

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha2::{Digest, Sha512};
use subtle::ConstantTimeEq;

/// Bytes of SHA-512.
const SHA512_LEN: usize = 64;

/// Rounds of PBKDF2 that a file may ask for: about half a second.
const MAX_ROUNDS: u32 = 1_000_000;

/// Memory in KiB that one login may take. Mosquitto 2.1 writes 46 MiB.
const MAX_MEMORY: u32 = 64 << 10;

/// Passes over that memory. Mosquitto 2.1 writes 1, OWASP's list ends at 5 with less memory.
const MAX_PASSES: u32 = 5;

/// Lanes of that memory; each is computed in turn here.
const MAX_LANES: u32 = 16;

/// Salts and argon2 outputs in bytes. Shorter ones protect nothing, longer ones nothing more.
const SALT: std::ops::RangeInclusive<usize> = 8..=128;
const ARGON2_OUTPUT: std::ops::RangeInclusive<usize> = 16..=128;

/// Mosquitto 2.0 takes salts of exactly this length.
const PBKDF2_SALT: usize = 12;

/// The rounds that we write: about 10 ms. Mosquitto 2.0 itself writes 101, and 2.1 writes 1,000;
/// both verify on their only thread, so that more would be felt by their other clients.
const PBKDF2_ROUNDS: u32 = 20_000;

/// The parameters for argon2id that OWASP recommends: 19 MiB, 2 passes, 1 lane.
const ARGON2_MEMORY: u32 = 19_456;
const ARGON2_PASSES: u32 = 2;
const ARGON2_LANES: u32 = 1;
const ARGON2_SALT: usize = 16;
const ARGON2_LEN: usize = 32;

/// How a new password is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// One round of SHA-512: for files that Mosquitto 1.6 reads.
    Sha512,
    /// PBKDF2 with HMAC-SHA512: for Mosquitto 2.0 and later.
    Pbkdf2,
    /// argon2id: for Mosquitto 2.1 and later.
    Argon2id,
}

/// A password as a file has it.
#[derive(Clone, PartialEq, Eq)]
pub enum PasswordHash {
    /// `$6$salt$hash`.
    Sha512 {
        /// Random bytes.
        salt: Vec<u8>,
        /// SHA-512 of password and salt.
        hash: Vec<u8>,
    },
    /// `$7$rounds$salt$hash`.
    Pbkdf2 {
        /// Rounds of HMAC-SHA512.
        rounds: u32,
        /// Random bytes.
        salt: Vec<u8>,
        /// What comes out of them.
        hash: Vec<u8>,
    },
    /// `$argon2id$v=19$m=..,t=..,p=..$salt$hash`.
    Argon2id {
        /// Memory in KiB.
        memory: u32,
        /// Passes.
        passes: u32,
        /// Lanes.
        lanes: u32,
        /// Random bytes.
        salt: Vec<u8>,
        /// What comes out of them.
        hash: Vec<u8>,
    },
}

/// Why a text is no password hash that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// Neither `$6$`, `$7$` nor `$argon2id$`.
    #[error("it must begin with $6$, $7$ or $argon2id$")]
    UnknownKind,
    /// Fields are missing, or there are too many.
    #[error("its fields are not complete")]
    Fields,
    /// A field is no base64.
    #[error("salt and hash must be base64")]
    Base64,
    /// A salt or a hash is too short or too long.
    #[error("salt or hash have a length that cannot be right")]
    Length,
    /// A number is missing, or would make a login take too much time or memory.
    #[error("its cost is not a number within limits")]
    Cost,
}

impl PasswordHash {
    /// Hashes a new password with a new salt.
    ///
    /// # Errors
    /// When the system has no random bytes.
    pub fn new(password: &[u8], scheme: Scheme) -> Result<Self, getrandom::Error> {
        let salt = |length| {
            let mut salt = vec![0; length];
            getrandom::fill(&mut salt).map(|()| salt)
        };
        Ok(match scheme {
            Scheme::Sha512 => {
                let salt = salt(PBKDF2_SALT)?;
                Self::Sha512 { hash: sha512(password, &salt), salt }
            }
            Scheme::Pbkdf2 => {
                let salt = salt(PBKDF2_SALT)?;
                let rounds = PBKDF2_ROUNDS;
                Self::Pbkdf2 { rounds, hash: pbkdf2(password, &salt, rounds, SHA512_LEN), salt }
            }
            Scheme::Argon2id => {
                let salt = salt(ARGON2_SALT)?;
                let (memory, passes, lanes) = (ARGON2_MEMORY, ARGON2_PASSES, ARGON2_LANES);
                let hash = argon2id(password, &salt, (memory, passes, lanes), ARGON2_LEN)
                    .expect("our own parameters are valid");
                Self::Argon2id { memory, passes, lanes, salt, hash }
            }
        })
    }

    /// True when this is the hash of `password`. The comparison takes the same time wherever the
    /// difference is.
    pub fn verify(&self, password: &[u8]) -> bool {
        let (computed, hash) = match self {
            Self::Sha512 { salt, hash } => (Some(sha512(password, salt)), hash),
            Self::Pbkdf2 { rounds, salt, hash } => {
                (Some(pbkdf2(password, salt, *rounds, hash.len())), hash)
            }
            Self::Argon2id { memory, passes, lanes, salt, hash } => {
                (argon2id(password, salt, (*memory, *passes, *lanes), hash.len()), hash)
            }
        };
        computed.is_some_and(|computed| computed.ct_eq(hash).into())
    }

    pub(super) fn is_weak(&self) -> bool {
        matches!(self, Self::Sha512 { .. })
    }
}

fn sha512(password: &[u8], salt: &[u8]) -> Vec<u8> {
    Sha512::new().chain_update(password).chain_update(salt).finalize().to_vec()
}

fn pbkdf2(password: &[u8], salt: &[u8], rounds: u32, length: usize) -> Vec<u8> {
    let mut output = vec![0; length];
    pbkdf2::pbkdf2_hmac::<Sha512>(password, salt, rounds, &mut output);
    output
}

/// `None` for parameters that argon2 does not have.
fn argon2id(
    password: &[u8],
    salt: &[u8],
    (memory, passes, lanes): (u32, u32, u32),
    length: usize,
) -> Option<Vec<u8>> {
    let params = Params::new(memory, passes, lanes, Some(length)).ok()?;
    let mut output = vec![0; length];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(password, salt, &mut output)
        .ok()?;
    Some(output)
}

impl FromStr for PasswordHash {
    type Err = HashError;

    fn from_str(text: &str) -> Result<Self, HashError> {
        let mut fields = text.split('$');
        if fields.next() != Some("") {
            return Err(HashError::UnknownKind);
        }
        let kind = fields.next();
        let fields: Vec<_> = fields.collect();
        match (kind, fields.as_slice()) {
            (Some("6"), [salt, hash]) => {
                let salt = decode(salt, SALT)?;
                Ok(Self::Sha512 { salt, hash: decode(hash, SHA512_LEN..=SHA512_LEN)? })
            }
            (Some("7"), [rounds, salt, hash]) => {
                let rounds = number(rounds, 1, MAX_ROUNDS)?;
                let salt = decode(salt, SALT)?;
                Ok(Self::Pbkdf2 { rounds, salt, hash: decode(hash, SHA512_LEN..=SHA512_LEN)? })
            }
            (Some("argon2id"), ["v=19", costs, salt, hash]) => argon2id_line(costs, salt, hash),
            (Some("6" | "7" | "argon2id"), _) => Err(HashError::Fields),
            _ => Err(HashError::UnknownKind),
        }
    }
}

/// Our own reading of the fields: the argon2 crate's refuses salts of more than 48 bytes, and
/// Mosquitto 2.1 writes 64.
fn argon2id_line(costs: &str, salt: &str, hash: &str) -> Result<PasswordHash, HashError> {
    let costs: Vec<_> = costs.split(',').collect();
    let [memory, passes, lanes] = costs[..] else { return Err(HashError::Cost) };
    let cost =
        |text: &str, name, max| number(text.strip_prefix(name).ok_or(HashError::Cost)?, 1, max);
    let (memory, passes, lanes) = (
        cost(memory, "m=", MAX_MEMORY)?,
        cost(passes, "t=", MAX_PASSES)?,
        cost(lanes, "p=", MAX_LANES)?,
    );
    let salt = decode(salt, SALT)?;
    let hash = decode(hash, ARGON2_OUTPUT)?;
    if Params::new(memory, passes, lanes, Some(hash.len())).is_err() {
        return Err(HashError::Cost);
    }
    Ok(PasswordHash::Argon2id { memory, passes, lanes, salt, hash })
}

fn number(text: &str, min: u32, max: u32) -> Result<u32, HashError> {
    text.parse().ok().filter(|number| (min..=max).contains(number)).ok_or(HashError::Cost)
}

/// Base64 with or without padding: `mosquitto_passwd` writes it with, PHC strings are without.
fn decode(text: &str, length: std::ops::RangeInclusive<usize>) -> Result<Vec<u8>, HashError> {
    let bytes =
        STANDARD_NO_PAD.decode(text.trim_end_matches('=')).map_err(|_| HashError::Base64)?;
    if length.contains(&bytes.len()) { Ok(bytes) } else { Err(HashError::Length) }
}

impl fmt::Display for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let padded = |bytes: &[u8]| STANDARD.encode(bytes);
        match self {
            Self::Sha512 { salt, hash } => write!(f, "$6${}${}", padded(salt), padded(hash)),
            Self::Pbkdf2 { rounds, salt, hash } => {
                write!(f, "$7${rounds}${}${}", padded(salt), padded(hash))
            }
            Self::Argon2id { memory, passes, lanes, salt, hash } => {
                let (salt, hash) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(hash));
                write!(f, "$argon2id$v=19$m={memory},t={passes},p={lanes}${salt}${hash}")
            }
        }
    }
}

/// Without the hash: what is not in a log cannot be taken from there.
impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sha512 { .. } => "Sha512",
            Self::Pbkdf2 { .. } => "Pbkdf2",
            Self::Argon2id { .. } => "Argon2id",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_hash_is_read_again_and_verified() {
        for scheme in [Scheme::Sha512, Scheme::Pbkdf2, Scheme::Argon2id] {
            let hash = PasswordHash::new(b"p\xffw", scheme).expect("random bytes");
            let read: PasswordHash = hash.to_string().parse().expect("our own text");
            assert!(read == hash, "{scheme:?}");
            assert!(read.verify(b"p\xffw"));
            assert!(!read.verify(b"p\xffW"));
            let other = PasswordHash::new(b"p\xffw", scheme).expect("random bytes");
            assert!(other != hash, "the salt is new each time");
        }
    }

    #[test]
    fn what_a_file_may_ask_for_is_bounded() {
        let (salt, hash) = (STANDARD.encode([1; 12]), STANDARD.encode([1; 64]));
        let error = |text: String| text.parse::<PasswordHash>().expect_err(&text);
        assert_eq!(error(format!("$7$1000001${salt}${hash}")), HashError::Cost);
        assert_eq!(error(format!("$7$0${salt}${hash}")), HashError::Cost);
        assert_eq!(error(format!("$7$-1${salt}${hash}")), HashError::Cost);
        assert_eq!(error(format!("$7$101${salt}$AAAA")), HashError::Length);
        assert_eq!(error(format!("$7$101$${hash}")), HashError::Length);
        assert_eq!(error(format!("$7$101${salt}$!")), HashError::Base64);
        assert_eq!(error(format!("$7$101${salt}")), HashError::Fields);
        assert_eq!(error(format!("$5${salt}${hash}")), HashError::UnknownKind);
        assert_eq!(error("secret".into()), HashError::UnknownKind);
        let argon2 = |costs| format!("$argon2id$v=19${costs}${salt}${hash}");
        for costs in
            ["m=65537,t=1,p=1", "m=1024,t=6,p=1", "m=1024,t=1,p=17", "m=1024,t=1", "m=1,t=1,p=1"]
        {
            assert_eq!(error(argon2(costs)), HashError::Cost, "{costs}");
        }
        assert_eq!(
            error(format!("$argon2id$v=16$m=1024,t=1,p=1${salt}${hash}")),
            HashError::Fields
        );
    }
}
