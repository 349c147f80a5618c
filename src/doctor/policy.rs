//! Evaluates a queue's policy: whether it allows the sender of the bucket's events, and only that sender.
//!
//! Each statement is compared with the known keys of the sender's requests. A condition on an unknown key
//! counts as met in a statement that allows, and as not met in one that denies. See
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html>.

use serde_json::Value;

/// The AWS service that sends events to the queue.
pub(super) struct Sender<'a> {
    /// Its service principal: `s3.amazonaws.com`.
    pub(super) service: &'a str,
    /// ARN of the bucket or topic that it sends for; `None` for an EventBridge rule, whose ARN is unknown.
    pub(super) source_arn: Option<&'a str>,
    /// Account of the bucket and the queue.
    pub(super) account: &'a str,
    /// ARN of the queue.
    pub(super) queue_arn: &'a str,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum PolicyDecision {
    /// Allowed. Without the missing conditions, other senders are allowed as well.
    Allowed { missing_conditions: Vec<&'static str> },
    /// No statement allows the sender.
    NotAllowed,
    /// The statement with this `Sid` denies the sender.
    Denied(String),
}

impl Sender<'_> {
    pub(super) fn evaluate(&self, policy: &Value) -> PolicyDecision {
        let statements = values_of(&policy["Statement"]);
        let matching = |effect: &str| -> Vec<&Value> {
            let applies =
                |statement: &&&Value| statement["Effect"] == effect && self.is_subject_to(statement);
            statements.iter().filter(applies).copied().collect()
        };
        let is_met = |statement: &&Value| self.evaluate_conditions(statement).all(|met| met == Some(true));
        if let Some(denying) = matching("Deny").into_iter().find(is_met) {
            return PolicyDecision::Denied(denying["Sid"].as_str().unwrap_or("without a Sid").to_owned());
        }
        let mut allowing = matching("Allow");
        allowing.retain(|statement| self.evaluate_conditions(statement).all(|met| met != Some(false)));
        if allowing.is_empty() {
            return PolicyDecision::NotAllowed;
        }
        let mut missing_conditions = self.required_conditions();
        missing_conditions.retain(|key| allowing.iter().any(|statement| !has_condition(statement, key)));
        PolicyDecision::Allowed { missing_conditions }
    }

    /// The condition keys that restrict the statement to this sender. A bucket's ARN does not contain the
    /// account; the ARNs of topics and rules do.
    fn required_conditions(&self) -> Vec<&'static str> {
        match self.service {
            "s3.amazonaws.com" => vec!["aws:SourceArn", "aws:SourceAccount"],
            _ => vec!["aws:SourceArn"],
        }
    }

    fn is_subject_to(&self, statement: &Value) -> bool {
        let principal = &statement["Principal"];
        let principal_matches = principal == "*"
            || strings_of(&principal["AWS"]).any(|aws| aws == "*")
            || strings_of(&principal["Service"]).any(|service| service == self.service || service == "*");
        let action_matches = strings_of(&statement["Action"])
            .any(|action| matches_pattern(&action.to_ascii_lowercase(), "sqs:sendmessage"));
        let resource = &statement["Resource"];
        let resource_matches =
            resource.is_null() || strings_of(resource).any(|arn| matches_pattern(arn, self.queue_arn));
        principal_matches && action_matches && resource_matches
    }

    /// Returns whether each condition is met; `None` for a condition on an unknown key.
    fn evaluate_conditions<'a>(&'a self, statement: &'a Value) -> impl Iterator<Item = Option<bool>> + 'a {
        conditions(statement).map(|(operator, key, values)| self.evaluate_condition(operator, key, values))
    }

    fn evaluate_condition(&self, operator: &str, key: &str, values: &Value) -> Option<bool> {
        let known = match key.to_ascii_lowercase().as_str() {
            "aws:sourcearn" => self.source_arn?,
            "aws:sourceaccount" => self.account,
            // AWS services use TLS for every request.
            "aws:securetransport" => "true",
            _ => return None,
        };
        let operator = operator.trim_end_matches("IfExists");
        let any = match operator {
            "StringEquals" | "StringNotEquals" => strings_of(values).any(|value| value == known),
            "Bool" => {
                values_of(values).into_iter().any(|value| value == known || *value == (known == "true"))
            }
            "StringEqualsIgnoreCase" | "StringNotEqualsIgnoreCase" => {
                strings_of(values).any(|value| value.eq_ignore_ascii_case(known))
            }
            "StringLike" | "StringNotLike" | "ArnLike" | "ArnNotLike" | "ArnEquals" | "ArnNotEquals" => {
                strings_of(values).any(|value| matches_pattern(value, known))
            }
            _ => return None,
        };
        Some(any != operator.contains("Not"))
    }
}

/// Returns the operator, key and values of each condition.
fn conditions(statement: &Value) -> impl Iterator<Item = (&str, &str, &Value)> {
    let operators = statement["Condition"].as_object().into_iter().flatten();
    operators.flat_map(|(operator, keys)| {
        let keys = keys.as_object().into_iter().flatten();
        keys.map(move |(key, values)| (operator.as_str(), key.as_str(), values))
    })
}

fn has_condition(statement: &Value, key: &str) -> bool {
    conditions(statement).any(|(_, name, _)| name.eq_ignore_ascii_case(key))
}

fn values_of(value: &Value) -> Vec<&Value> {
    match value {
        Value::Null => Vec::new(),
        Value::Array(values) => values.iter().collect(),
        value => vec![value],
    }
}

fn strings_of(value: &Value) -> impl Iterator<Item = &str> {
    values_of(value).into_iter().filter_map(Value::as_str)
}

/// Whether `text` matches `pattern`: `*` stands for any text, `?` for one character.
fn matches_pattern(pattern: &str, text: &str) -> bool {
    let Some(first) = pattern.chars().next() else { return text.is_empty() };
    let rest = &pattern[first.len_utf8()..];
    match first {
        '*' => {
            text.char_indices().any(|(at, _)| matches_pattern(rest, &text[at..])) || matches_pattern(rest, "")
        }
        '?' => text.chars().next().is_some_and(|any| matches_pattern(rest, &text[any.len_utf8()..])),
        first => text.strip_prefix(first).is_some_and(|text| matches_pattern(rest, text)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const S3: Sender<'_> = Sender {
        service: "s3.amazonaws.com",
        source_arn: Some("arn:aws:s3:::photos"),
        account: "111122223333",
        queue_arn: "arn:aws:sqs:eu-central-1:111122223333:events",
    };

    fn allow(condition: &Value) -> Value {
        json!({"Effect": "Allow", "Principal": {"Service": "s3.amazonaws.com"}, "Action": "sqs:SendMessage",
            "Resource": S3.queue_arn, "Condition": condition})
    }

    fn deny(condition: &Value) -> Value {
        json!({"Sid": "No", "Effect": "Deny", "Principal": "*", "Action": "sqs:*", "Resource": "*",
            "Condition": condition})
    }

    fn restricted() -> Value {
        json!({"StringEquals": {"aws:SourceAccount": S3.account}, "ArnEquals": {"aws:SourceArn": S3.source_arn}})
    }

    fn evaluate(statements: &[Value]) -> PolicyDecision {
        S3.evaluate(&json!({ "Statement": statements }))
    }

    #[test]
    fn conditions_on_source_and_account_must_be_met() {
        let allowed =
            |missing: &[&'static str]| PolicyDecision::Allowed { missing_conditions: missing.to_vec() };
        let both = ["aws:SourceArn", "aws:SourceAccount"];
        for (condition, decision) in [
            (restricted(), allowed(&[])),
            (json!({}), allowed(&both)),
            (json!({"ArnLike": {"AWS:sourcearn": "arn:aws:s3:*:*:pho*"}}), allowed(&both[1..])),
            (json!({"StringEquals": {"aws:SourceAccount": ["1", S3.account]}}), allowed(&both[..1])),
            (json!({"StringEquals": {"aws:SourceAccount": "444455556666"}}), PolicyDecision::NotAllowed),
            (json!({"ArnEquals": {"aws:SourceArn": "arn:aws:s3:::other"}}), PolicyDecision::NotAllowed),
            (json!({"StringEquals": {"aws:SourceArn": "arn:aws:s3:::*"}}), PolicyDecision::NotAllowed),
            (json!({"StringNotEquals": {"aws:SourceAccount": S3.account}}), PolicyDecision::NotAllowed),
            (json!({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}), allowed(&both)),
        ] {
            assert_eq!(evaluate(&[allow(&condition)]), decision, "{condition}");
        }
    }

    #[test]
    fn one_of_several_statements_is_enough_to_allow_the_sender() {
        let other = allow(&json!({"ArnEquals": {"aws:SourceArn": "arn:aws:s3:::other"}}));
        assert_eq!(
            evaluate(&[other, allow(&restricted())]),
            PolicyDecision::Allowed { missing_conditions: vec![] }
        );
    }

    #[test]
    fn a_statement_that_denies_wins_if_its_conditions_are_met() {
        let denied = || PolicyDecision::Denied("No".into());
        let open = || PolicyDecision::Allowed { missing_conditions: vec![] };
        for (condition, decision) in [
            (json!({}), denied()),
            (json!({"Bool": {"aws:SecureTransport": "false"}}), open()),
            (json!({"Bool": {"aws:SecureTransport": false}}), open()),
            (json!({"ArnNotEquals": {"aws:SourceArn": "arn:aws:s3:::other"}}), denied()),
            (json!({"ArnNotEquals": {"aws:SourceArn": S3.source_arn}}), open()),
            (json!({"StringNotEqualsIfExists": {"aws:SourceAccount": "444455556666"}}), denied()),
            (json!({"StringNotEquals": {"aws:PrincipalOrgID": "o-1"}}), open()),
        ] {
            assert_eq!(evaluate(&[allow(&restricted()), deny(&condition)]), decision, "{condition}");
        }
    }

    #[test]
    fn a_statement_for_another_principal_action_or_resource_is_ignored() {
        for (field, value) in [
            ("Principal", json!({"Service": "sns.amazonaws.com"})),
            ("Action", json!(["sqs:ReceiveMessage"])),
            ("Resource", json!("arn:aws:sqs:eu-central-1:111122223333:other")),
        ] {
            let mut statement = allow(&restricted());
            statement[field] = value;
            assert_eq!(evaluate(&[statement]), PolicyDecision::NotAllowed, "{field}");
        }
        assert_eq!(S3.evaluate(&Value::Null), PolicyDecision::NotAllowed);
    }

    #[test]
    fn any_event_bridge_rule_is_accepted_as_source() {
        let rules = Sender { service: "events.amazonaws.com", source_arn: None, ..S3 };
        let mut statement = allow(&json!({"ArnEquals": {"aws:SourceArn": "arn:aws:events:::rule/photos"}}));
        statement["Principal"] = json!({"Service": "events.amazonaws.com"});
        let policy = json!({ "Statement": statement });
        assert_eq!(rules.evaluate(&policy), PolicyDecision::Allowed { missing_conditions: vec![] });
    }
}
