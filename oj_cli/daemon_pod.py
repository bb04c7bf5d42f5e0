"""`oj daemon manifest` and `oj daemon connect`: a daemon that is elsewhere, made and reached.

Rule: stdout is for another program, `kubectl apply -f -` or the `eval` of a shell, so it holds the manifest or the settings and
nothing else; what a person should know is said on stderr. No secret is taken from the command line, where others see it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from oj_cli import diagnostics, output
from oj_cli.context import Ctx, pass_ctx
from oj_daemon.errors import OjError

if TYPE_CHECKING:
    from oj_cli.connect import Way

PORT = click.IntRange(1, 65535)


@click.command()
@click.option(
    "--image", required=True, help="Image of the daemon (target `daemon` of the Dockerfile)."
)
@click.option(
    "--image-pull-secret",
    default="",
    metavar="NAME",
    help="Secret with the registry's credentials.",
)
@click.option(
    "--namespace", default="oj", show_default=True, help="Where the daemon and its agents run."
)
@click.option(
    "--create-namespace", is_flag=True, help="Make it as well, limited to restricted pods."
)
@click.option(
    "--name",
    default="oj-daemon",
    show_default=True,
    help="Name of the daemon, its objects and its Lease.",
)
@click.option(
    "--runtime",
    type=click.Choice(["kubernetes", "local"]),
    default="kubernetes",
    show_default=True,
    help="Where jobs run: in pods of their own, or in the daemon's.",
)
@click.option(
    "--replicas",
    type=click.IntRange(1, 9),
    default=1,
    show_default=True,
    help="More than one are standbys that take over by Lease; they share one ReadWriteMany volume, whose file "
    "system has to honour fsync, and are replaced only when their pods are deleted.",
)
@click.option(
    "--token-file",
    type=click.Path(dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="Token for clients, from a file (- is stdin); without it one is made.",
)
@click.option(
    "--token-secret",
    default="",
    metavar="NAME",
    help="Secret that has it already, under the key `token`.",
)
@click.option(
    "--tls-secret",
    default="",
    metavar="NAME",
    help="Secret with `tls.crt` and `tls.key`; without it the daemon makes its certificate itself.",
)
@click.option(
    "--tls-name",
    "tls_names",
    multiple=True,
    metavar="HOST",
    help="Further name or address in the certificate that the daemon makes; can be repeated.",
)
@click.option(
    "--webhook-secret",
    default="",
    metavar="NAME",
    help="Secret whose key `url` says where notifications are posted to.",
)
@click.option("--webhook-signed", is_flag=True, help="They are signed with its key `secret`.")
@click.option(
    "--service-type",
    type=click.Choice(["ClusterIP", "NodePort", "LoadBalancer"]),
    default="ClusterIP",
    show_default=True,
    help="How clients outside of the cluster reach it (ClusterIP: by port-forward).",
)
@click.option(
    "--storage-class",
    default="",
    metavar="NAME",
    help="Of the volume; without it the cluster's default.",
)
@click.option("--storage-size", default="10Gi", show_default=True, help="Of the volume.")
@click.option(
    "--access-mode",
    type=click.Choice(["ReadWriteOncePod", "ReadWriteOnce", "ReadWriteMany"]),
    default=None,
    help="Of the volume; without it ReadWriteOncePod, or ReadWriteMany for several replicas.",
)
@click.option(
    "--drain",
    "drain_seconds",
    type=click.IntRange(1, 3600),
    default=25,
    show_default=True,
    metavar="SECONDS",
    help="How long a daemon that is stopped waits for what is in flight.",
)
@click.option(
    "--cpu-request",
    default="100m",
    show_default=True,
    help="Of the daemon, as the following three.",
)
@click.option("--cpu-limit", default="2", show_default=True)
@click.option("--memory-request", default="256Mi", show_default=True)
@click.option("--memory-limit", default="2Gi", show_default=True)
@click.option(
    "--egress-port",
    "egress_ports",
    type=PORT,
    multiple=True,
    help="Port that the daemon may reach besides DNS, 443, 22, 6443 and agents; can be repeated.",
)
@click.option(
    "--agent-egress-port",
    "agent_egress_ports",
    type=PORT,
    multiple=True,
    help="Port that agents may reach besides DNS, the daemon, 443 and 22; can be repeated.",
)
@click.option(
    "--agent-image",
    default="",
    help="Image of agents' pods (target `agent` of the Dockerfile), unless the runbook names one.",
)
@click.option(
    "--agent-credential-secret",
    default="",
    metavar="NAME",
    help="Secret with the agent program's credentials.",
)
@click.option(
    "--agent-ssh-secret",
    default="",
    metavar="NAME",
    help="Secret with the deploy key and known hosts.",
)
@click.option(
    "--agent-git-secret",
    default="",
    metavar="NAME",
    help="Secret with the username and password, or token, that clones over https are made with.",
)
@click.option(
    "--agent-git-url",
    default="",
    metavar="URL",
    help="The git server that it is for, such as https://git.example.com.",
)
@click.option(
    "--agent-cpu-request", default="", help="Default of every agent's pod, as the following five."
)
@click.option("--agent-cpu-limit", default="")
@click.option("--agent-memory-request", default="")
@click.option("--agent-memory-limit", default="")
@click.option("--agent-ephemeral-request", default="")
@click.option("--agent-ephemeral-limit", default="")
@click.option("--agent-pod-template", type=click.Path(dir_okay=False), metavar="FILE",
              help="YAML that is merged into every agent's pod: node selector, tolerations and the like.")  # fmt: skip
@pass_ctx
def manifest(
    ctx: Ctx,
    /,
    token_file: str | None,
    agent_pod_template: str | None,
    access_mode: str | None,
    **chosen: Any,  # noqa: ANN401 - the values of the options above, called as the fields of Options
) -> None:
    """Print what makes this a daemon in Kubernetes: oj daemon manifest --image IMAGE | kubectl apply -f -.

    A token that is made is in what is printed. To change something later without changing the token, name its Secret:
    --token-secret oj-daemon-token.
    """
    from oj_daemon.manifest import objects  # noqa: PLC0415 - only for this command
    from oj_daemon.manifest.options import Options  # noqa: PLC0415 - the same

    token = _token(token_file, chosen["token_secret"])
    options = Options(
        token=token,
        access_mode=access_mode or "",
        agent_pod_template=_pod_template(agent_pod_template),
        **chosen,
    )
    made = objects.objects(options)
    if ctx.json:
        output.json(objects.as_list(made))
    else:
        output.write(objects.render(made))
    if token and token_file is None:
        diagnostics.say(
            f"A token was made for this manifest. To keep it when you apply another: --token-secret {options.token_from}"
        )
    if options.replicas > 1:
        diagnostics.say(
            f"The volume claim {options.name}-state is part of this manifest: kubectl delete -f removes it too"
        )


@click.command()
@click.option("--kube", is_flag=True, help="The daemon in a cluster, asked by way of its API.")
@click.option("--namespace", default="oj", show_default=True)
@click.option("--name", default="oj-daemon", show_default=True)
@click.option(
    "--context",
    "kube_context",
    metavar="NAME",
    help="Of the kubeconfig; without it the current one.",
)
@click.option(
    "--kubeconfig",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Without it KUBECONFIG or ~/.kube/config.",
)
@click.option(
    "--local-port",
    type=PORT,
    help="Go through a port-forward to this port, also where there is another way.",
)
@click.option(
    "--save", is_flag=True, help="Write the token to a file that is yours alone, and name it."
)
@click.option("--show-token", is_flag=True, help="Print the token itself.")  # fmt: skip
@pass_ctx
def connect(
    ctx: Ctx,
    /,
    *,
    kube: bool,
    save: bool,
    show_token: bool,
    **where: Any,  # noqa: ANN401 - the values of the options above
) -> None:
    """Print the settings that reach a daemon: eval "$(oj daemon connect --kube --save)".

    Without --kube it is the daemon of this machine, for use on another one.
    """
    if save and show_token:
        raise click.UsageError("--save and --show-token exclude each other")
    if not kube:
        _refuse_options_of_a_cluster()
        if ctx.settings.daemon_url is not None:
            raise OjError(
                f"OJ_DAEMON_URL={ctx.settings.daemon_url} is the way to a daemon elsewhere already",
                code="invalid",
                hint="unset OJ_DAEMON_URL for the way to the daemon of this machine",
            )
    from oj_cli import connect as ways  # noqa: PLC0415 - only for this command

    way = (
        ways.to_cluster(ways.Cluster(**where))
        if kube
        else ways.to_here(ctx.query("DaemonStatus"), ctx.settings)
    )
    settings = {"OJ_DAEMON_URL": way.url}
    if way.fingerprint:
        settings["OJ_TLS_FINGERPRINT"] = way.fingerprint
    settings |= _token_settings(way, save=save, show=show_token)
    if ctx.json:
        output.json({"settings": settings, "notes": [*way.notes]})
    else:
        import shlex  # noqa: PLC0415 - only for this command

        output.lines(f"export {name}={shlex.quote(value)}" for name, value in settings.items())
    for note in way.notes:
        diagnostics.say(note)


def _refuse_options_of_a_cluster() -> None:
    context = click.get_current_context()
    for option in ("namespace", "name", "kube_context", "kubeconfig", "local_port"):
        if context.get_parameter_source(option) is click.core.ParameterSource.COMMANDLINE:
            word = "context" if option == "kube_context" else option.replace("_", "-")
            raise click.UsageError(f"--{word} is for a cluster: add --kube")


def _token_settings(way: Way, *, save: bool, show: bool) -> dict[str, str]:
    from oj_cli import connect as ways  # noqa: PLC0415 - loaded already

    if not way.token:
        if save or show:
            raise OjError(
                f"the token is not known here: {way.token_origin}",
                code="not_found",
                hint="set OJ_AUTH_TOKEN_FILE to the file that the daemon was given",
            )
    elif show:
        return {"OJ_AUTH_TOKEN": way.token.reveal()}
    elif save or ways.is_saved(way):
        return {"OJ_AUTH_TOKEN_FILE": str(ways.save(way))}
    where = f"; --save writes it to {ways.token_path(way)}" if way.token else ""
    diagnostics.say(f"Token: {way.token_origin}{where}")
    return {}


def _token(file: str | None, secret: str) -> Any:  # noqa: ANN401 - a Secret, whose module only this command loads
    """The token for a new Secret: from a file, or made here; none where a Secret has it already."""
    from oj_daemon.settings import Secret  # noqa: PLC0415 - loaded already

    if file is not None:
        return Secret(_read(file, "--token-file").strip())
    if secret:
        return Secret("")
    from secrets import token_urlsafe  # noqa: PLC0415 - only where a token is made

    return Secret(token_urlsafe(32))


def _pod_template(file: str | None) -> str:
    if file is None:
        return ""
    import yaml  # noqa: PLC0415 - only for this option

    text = _read(file, "--agent-pod-template")
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as failure:
        raise OjError(
            f"--agent-pod-template {file}: not YAML: {failure}",
            code="invalid",
            hint="write, for example: spec: {nodeSelector: {pool: agents}}",
        ) from failure
    if not isinstance(content, dict):
        raise OjError(
            f"--agent-pod-template {file}: expected fields of a pod",
            code="invalid",
            hint="write, for example: spec: {nodeSelector: {pool: agents}}",
        )
    return text


def _read(file: str, option: str) -> str:
    try:
        with click.open_file(file, encoding="utf-8") as stream:
            return str(stream.read())
    except (OSError, UnicodeDecodeError) as failure:
        raise OjError(
            f"{option} {file}: {failure}", code="invalid", hint="name a readable file"
        ) from failure
