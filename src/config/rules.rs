//! Rules that concern several settings.

use super::{
    auth::AuthArgs,
    common::CommonArgs,
    validate::{Validator, is_set},
};

/// Processes that share feeds need a log that they share.
pub(super) fn check_serve(common: &CommonArgs, no_poller: bool, validator: &mut Validator) {
    let mut require_redis =
        |requirement| validator.require("REDIS_URL", common.redis.redis_url.as_ref(), requirement);
    if no_poller {
        require_redis("must be set with --no-poller: Redis connects the web processes and the poller");
    }
    if !matches!(common.dyno.as_deref(), None | Some("" | "web.1")) {
        require_redis("must be set on every dyno but web.1: a second in-memory log would split the feeds");
    }
}

/// The poller appends to the log that the web processes read.
pub(super) fn check_poll(common: &CommonArgs, validator: &mut Validator) {
    let requirement = "must be set for poll: Redis connects the poller and the web processes";
    validator.require("REDIS_URL", common.redis.redis_url.as_ref(), requirement);
}

/// Authentication needs a key.
pub(super) fn check_key_sources(auth: &AuthArgs, validator: &mut Validator) {
    if !is_set(auth.token_keys.auth_jwt_secret.as_ref()) && !is_set(auth.auth_jwks_url.as_ref()) {
        validator.add_error(
            "AUTH_JWT_SECRET",
            "or AUTH_JWKS_URL must be set; only AUTH=off starts without a key source, and grants every client every right",
        );
    }
}
