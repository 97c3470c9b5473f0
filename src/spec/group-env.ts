/**
 * What a guest in the network of its group is given beside its environment: `VIRT_GROUP_IP`, where it reaches what the other
 * tasks listen at, also at 127.0.0.1, which in the guest is the guest itself; with IPv6 `VIRT_GROUP_IP6`, where it reaches what
 * they listen at there, but not what listens at ::1 only. Proxies of a mesh listen there for the
 * upstreams that Nomad names in the environment.
 */
export function groupEnv(
  env: Readonly<Record<string, string>>,
  {
    gateway,
    six,
  }: { readonly gateway: string; readonly six?: { readonly gateway: string } | undefined },
): Readonly<Record<string, string>> {
  const upstreams = Object.entries(env)
    .filter(([name]) => /^NOMAD_UPSTREAM_(ADDR|IP)_/.test(name))
    .map(([name, value]) => [name, value.replace(/^127\.\d+\.\d+\.\d+(?=$|:)/, gateway)]);
  return {
    ...Object.fromEntries(upstreams),
    VIRT_GROUP_IP: gateway,
    ...(six && { VIRT_GROUP_IP6: six.gateway }),
  };
}
