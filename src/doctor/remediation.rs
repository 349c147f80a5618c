//! The shell commands that fix findings, ready to paste. The stacks have the names of `infra/README.md`.

/// Deploys the stack of bucket and queue again. A parameter that is not listed keeps its value.
pub(super) fn deploy_photos_stack(parameters: &str) -> String {
    let deploy = "aws cloudformation deploy --stack-name photoshare --template-file infra/photos.yaml";
    with_parameters(deploy, parameters)
}

/// Deploys the stack of the server's permissions again.
pub(super) fn deploy_access_stack(parameters: &str) -> String {
    let deploy = "aws cloudformation deploy --stack-name photoshare-access \
         --template-file infra/access.yaml --capabilities CAPABILITY_IAM";
    with_parameters(deploy, parameters)
}

/// Whether `fix` deploys a stack.
pub(super) fn is_deployment(fix: &str) -> bool {
    fix.contains("aws cloudformation deploy")
}

/// Sets an environment variable to an output of the stack of bucket and queue.
pub(super) fn set_variable_to_output(variable: &str, output: &str) -> String {
    format!("set {variable} to the output of: {}", print_output("photoshare", output))
}

/// A stack parameter whose value is the output of the same name of the stack of bucket and queue.
pub(super) fn parameter_from_output(parameter: &str) -> String {
    format!("{parameter}=\"$({})\"", print_output("photoshare", parameter))
}

/// Creates another access key for the server.
pub(super) fn create_access_key() -> String {
    let user = print_output("photoshare-access", "UserName");
    format!(
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to the output of: \
         aws iam create-access-key --user-name \"$({user})\""
    )
}

pub(super) fn set_queue_attributes(url: &str, attributes: &str) -> String {
    format!("aws sqs set-queue-attributes --queue-url {url} --attributes {attributes}")
}

fn print_output(stack: &str, output: &str) -> String {
    format!(
        "aws cloudformation describe-stacks --stack-name {stack} \
         --query \"Stacks[0].Outputs[?OutputKey=='{output}'].OutputValue\" --output text"
    )
}

fn with_parameters(deploy: &str, parameters: &str) -> String {
    if parameters.is_empty() {
        deploy.to_owned()
    } else {
        format!("{deploy} --parameter-overrides {parameters}")
    }
}
