//! The commands that mend things, as they can be pasted. The stacks have the names of `infra/README.md`.

/// Deploys bucket and queue again; a parameter that is not named keeps its value.
pub(super) fn photos(parameters: &str) -> String {
    let deploy = "aws cloudformation deploy --stack-name photoshare --template-file infra/photos.yaml";
    with(deploy, parameters)
}

/// Deploys what the server may do again.
pub(super) fn access(parameters: &str) -> String {
    let deploy = "aws cloudformation deploy --stack-name photoshare-access \
         --template-file infra/access.yaml --capabilities CAPABILITY_IAM";
    with(deploy, parameters)
}

/// Whether what mends it is a deployment.
pub(super) fn deploys(mend: &str) -> bool {
    mend.contains("aws cloudformation deploy")
}

/// Sets the variable to an output of bucket and queue.
pub(super) fn set_to_output(variable: &str, output: &str) -> String {
    format!("set {variable} to what this says: {}", print("photoshare", output))
}

/// A parameter whose value is the output of the same name of bucket and queue.
pub(super) fn from_output(parameter: &str) -> String {
    format!("{parameter}=\"$({})\"", print("photoshare", parameter))
}

/// Makes another key for the server.
pub(super) fn new_key() -> String {
    let user = print("photoshare-access", "UserName");
    format!(
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to what this says: \
         aws iam create-access-key --user-name \"$({user})\""
    )
}

/// Sets an attribute of the queue.
pub(super) fn queue(url: &str, attributes: &str) -> String {
    format!("aws sqs set-queue-attributes --queue-url {url} --attributes {attributes}")
}

fn print(stack: &str, output: &str) -> String {
    format!(
        "aws cloudformation describe-stacks --stack-name {stack} \
         --query \"Stacks[0].Outputs[?OutputKey=='{output}'].OutputValue\" --output text"
    )
}

fn with(deploy: &str, parameters: &str) -> String {
    if parameters.is_empty() {
        deploy.to_owned()
    } else {
        format!("{deploy} --parameter-overrides {parameters}")
    }
}
