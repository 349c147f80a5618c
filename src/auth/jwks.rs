//! JSON Web Key Sets: <https://www.rfc-editor.org/rfc/rfc7517>.

use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse},
};
use serde::Deserialize;

/// The public keys that verify tokens.
#[derive(Debug, Default)]
pub(super) struct KeySet(Vec<Key>);

#[derive(Debug)]
struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    public: DecodingKey,
}

#[derive(Deserialize)]
struct JwksDocument {
    keys: Vec<serde_json::Value>,
}

impl KeySet {
    /// Parses a key set. Ignores unsupported keys, as section 5 requires.
    pub(super) fn parse(body: &[u8]) -> Result<Self, serde_json::Error> {
        let JwksDocument { keys } = serde_json::from_slice(body)?;
        Ok(Self(keys.into_iter().filter_map(parse_key).collect()))
    }

    /// The keys for `algorithm` with this `id`, or all keys for it if the token has no `kid`.
    pub(super) fn matching(
        &self,
        algorithm: Algorithm,
        id: Option<&str>,
    ) -> impl Iterator<Item = &DecodingKey> {
        let has_id = move |key: &&Key| id.is_none_or(|id| key.id.as_deref() == Some(id));
        self.0.iter().filter(move |key| key.algorithm == algorithm).filter(has_id).map(|key| &key.public)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

fn parse_key(value: serde_json::Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    let algorithm = signature_algorithm(&jwk).filter(|_| is_for_signatures(&jwk))?;
    Some(Key { algorithm, public: DecodingKey::from_jwk(&jwk).ok()?, id: jwk.common.key_id })
}

/// The algorithm of the key, derived from its type and curve; the key's own `alg` must agree. Ignores shared
/// secrets, which do not belong in a public set.
fn signature_algorithm(jwk: &Jwk) -> Option<Algorithm> {
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Algorithm::ES256,
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
        _ => return None,
    };
    let declared = jwk.common.key_algorithm;
    declared.is_none_or(|declared| declared == algorithm.into()).then_some(algorithm)
}

fn is_for_signatures(jwk: &Jwk) -> bool {
    let usage = jwk.common.public_key_use.as_ref();
    let operations = jwk.common.key_operations.as_ref();
    usage.is_none_or(|usage| *usage == PublicKeyUse::Signature)
        && operations.is_none_or(|operations| operations.contains(&KeyOperations::Verify))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn with(mut base: Value, more: Value) -> Value {
        let Value::Object(more) = more else { panic!("an object") };
        base.as_object_mut().unwrap().extend(more);
        base
    }

    #[test]
    fn a_key_is_for_the_algorithm_of_its_type_and_for_nothing_else() {
        let rsa = json!({"kty": "RSA", "kid": "k", "n": "AQAB", "e": "AQAB"});
        let p256 = json!({"kty": "EC", "kid": "k", "crv": "P-256", "x": "AQAB", "y": "AQAB"});
        let ed = json!({"kty": "OKP", "kid": "k", "crv": "Ed25519", "x": "AQAB"});
        for (key, algorithm) in [
            (rsa.clone(), Some(Algorithm::RS256)),
            (p256.clone(), Some(Algorithm::ES256)),
            (ed.clone(), Some(Algorithm::EdDSA)),
            (
                with(rsa.clone(), json!({"alg": "RS256", "use": "sig", "key_ops": ["verify"]})),
                Some(Algorithm::RS256),
            ),
            (with(rsa.clone(), json!({"alg": "PS256"})), None),
            (with(rsa.clone(), json!({"alg": "HS256"})), None),
            (with(rsa.clone(), json!({"alg": "ES256"})), None),
            (with(rsa.clone(), json!({"use": "enc"})), None),
            (with(rsa, json!({"key_ops": ["encrypt"]})), None),
            (with(p256.clone(), json!({"crv": "P-384"})), None),
            (with(p256, json!({"alg": "EdDSA"})), None),
            (with(ed, json!({"crv": "X25519"})), None),
            (json!({"kty": "oct", "kid": "k", "k": "c2VjcmV0"}), None),
            (json!({"kty": "oct", "kid": "k", "alg": "HS256", "k": "c2VjcmV0"}), None),
            (json!({"kty": "RSA", "kid": "k"}), None),
            (json!("nonsense"), None),
        ] {
            let set = KeySet::parse(json!({ "keys": [key] }).to_string().as_bytes()).unwrap();
            let matches = |algorithm| set.matching(algorithm, Some("k")).count() == 1;
            let all =
                [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA, Algorithm::HS256, Algorithm::PS256];
            let matching: Vec<_> = all.into_iter().filter(|algorithm| matches(*algorithm)).collect();
            assert_eq!(matching, Vec::from_iter(algorithm), "{key}");
        }
    }

    #[test]
    fn keys_match_by_id_and_all_keys_match_without_one() {
        let ed = |kid: Value| json!({"kty": "OKP", "crv": "Ed25519", "x": "AQAB", "kid": kid});
        let keys = json!({"keys": [ed("a".into()), ed("b".into()), ed(Value::Null)]});
        let set = KeySet::parse(keys.to_string().as_bytes()).unwrap();
        for (id, found) in [(Some("a"), 1), (Some("c"), 0), (Some(""), 0), (None, 3)] {
            assert_eq!(set.matching(Algorithm::EdDSA, id).count(), found, "{id:?}");
        }
    }

    #[test]
    fn a_body_that_is_not_a_key_set_is_rejected() {
        for body in ["", "[]", "{}", r#"{"keys":{}}"#, "<html>"] {
            assert!(KeySet::parse(body.as_bytes()).is_err(), "{body}");
        }
    }
}
