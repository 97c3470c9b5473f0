package nomadtest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/nomad/jobspec2"
	"github.com/shoenig/test/must"
	"github.com/zclconf/go-cty/cty"
)

// P-18: every option can be written as a block, as an attribute with "=", and in JSON, and means the same.
func TestP18_JobSyntax(t *testing.T) {
	h := launchIn(t, shortDir(t))
	schema, err := h.TaskConfigSchema()
	must.NoError(t, err)
	type form struct {
		hcl  []string
		json any
		want cty.Value
	}
	word := func(text string) form {
		return form{[]string{fmt.Sprintf("= %q", text)}, text, cty.StringVal(text)}
	}
	number := func(text string, value int64) form {
		return form{[]string{"= " + text, fmt.Sprintf("= %q", text)}, value, cty.NumberIntVal(value)}
	}
	words := func(items ...string) form {
		values := []cty.Value{}
		for _, item := range items {
			values = append(values, cty.StringVal(item))
		}
		return form{[]string{fmt.Sprintf("= [%q]", strings.Join(items, `","`))}, items, cty.ListVal(values)}
	}
	bridge := cty.ObjectVal(map[string]cty.Value{
		"name": cty.StringVal("virbr0"), "ports": cty.ListVal([]cty.Value{cty.StringVal("www")}),
	})
	// A disk with all defaults but these.
	disk := func(set map[string]cty.Value) cty.Value {
		value, err := convert(schema, map[string]any{"disk": []any{map[string]any{}}})
		must.NoError(t, err)
		fields := value.GetAttr("disk").AsValueSlice()[0].AsValueMap()
		for key, value := range set {
			fields[key] = value
		}
		return cty.ListVal([]cty.Value{cty.ObjectVal(fields)})
	}
	// A block with all defaults but these.
	block := func(key string, set map[string]cty.Value) cty.Value {
		value, err := convert(schema, map[string]any{key: []any{map[string]any{}}})
		must.NoError(t, err)
		fields := value.GetAttr(key).AsValueMap()
		for key, value := range set {
			fields[key] = value
		}
		return cty.ObjectVal(fields)
	}
	nic := func() cty.Value {
		value, err := convert(schema, map[string]any{"network_interface": []any{map[string]any{}}})
		must.NoError(t, err)
		fields := value.GetAttr("network_interface").AsValueSlice()[0].AsValueMap()
		fields["bridge"] = bridge
		return cty.ListVal([]cty.Value{cty.ObjectVal(fields)})
	}
	options := map[string]form{
		"ready": {
			[]string{`{ timeout = "1m" }`, `= { timeout = "1m" }`},
			map[string]any{"timeout": "1m"},
			block("ready", map[string]cty.Value{"timeout": cty.StringVal("1m")}),
		},
		"display": {
			[]string{`{ video = "std" }`, `= { video = "std" }`},
			map[string]any{"video": "std"},
			block("display", map[string]cty.Value{"video": cty.StringVal("std")}),
		},
		"disk": {
			[]string{
				"{\n size = \"20GiB\"\n sparse = false\n primary = true\n }",
				`= { size = "20GiB", sparse = false, primary = true }`,
				`= [{ size = "20GiB", sparse = "false", primary = "true" }]`,
			},
			[]any{map[string]any{"size": "20GiB", "sparse": false, "primary": true}},
			disk(map[string]cty.Value{"size": cty.StringVal("20GiB"), "sparse": cty.False, "primary": cty.True}),
		},
		// Keys of Nomad's qemu driver: any value reaches the plugin, which names the key to use.
		"image_path":                       word("local/disk.raw"),
		"drive_interface":                  word("virtio"),
		"args":                             word("-nographic"),
		"command":                          word("/bin/true"),
		"emulator":                         word("qemu-system-x86_64"),
		"machine_type":                     word("pc"),
		"port_map":                         word("http"),
		"graceful_shutdown":                word("true"),
		"guest_agent":                      word("true"),
		"password":                         word("change me"),
		"authorized_ssh_key":               word("ssh-ed25519 AAAA me@example"),
		"image":                            word("local/disk.raw"),
		"primary_disk_size":                number("10000", 10000),
		"use_thin_copy":                    {[]string{"= true", `= "true"`}, true, cty.True},
		"hostname":                         word("web-1"),
		"user_data":                        word("local/user-data.yml"),
		"default_user_authorized_ssh_key":  word("ssh-ed25519 AAAA me@example"),
		"default_user_authorized_ssh_keys": words("ssh-ed25519 AAAA you@example"),
		"default_user_password":            word("change me: now"),
		"cmds":                             words("touch /started"),
		"cmds_on":                          word("boot"),
		"timezone":                         word("Europe/Berlin"),
		"accelerator":                      word("tcg"),
		"vcpus":                            number("2", 2),
		"firmware":                         word("uefi"),
		"os": {
			[]string{`{ arch = "x86_64" }`, `= { arch = "x86_64" }`, `= [{ arch = "x86_64" }]`},
			map[string]any{"arch": "x86_64"},
			cty.ObjectVal(map[string]cty.Value{"arch": cty.StringVal("x86_64"), "machine": cty.NullVal(cty.String)}),
		},
		"watchdog": {
			[]string{`{ action = "pause" }`, `= { action = "pause" }`, `= [{ action = "pause" }]`},
			map[string]any{"action": "pause"},
			cty.ObjectVal(map[string]cty.Value{"action": cty.StringVal("pause")}),
		},
		"meta_data": {
			[]string{`{ role = "web" }`, `= { role = "web" }`, `= [{ role = "web" }]`},
			[]any{map[string]any{"role": "web"}},
			cty.ListVal([]cty.Value{cty.MapVal(map[string]cty.Value{"role": cty.StringVal("web")})}),
		},
		"network_config":  word("local/network.yml"),
		"user_data_check": {[]string{"= false", `= "false"`}, false, cty.False},
		"exec": {
			[]string{`{ user = "web" }`, `= { user = "web" }`, `= [{ user = "web" }]`},
			map[string]any{"user": "web"},
			cty.ObjectVal(map[string]cty.Value{
				"on_sighup": cty.NullVal(cty.List(cty.String)), "user": cty.StringVal("web"), "via": cty.StringVal("auto"),
			}),
		},
		"network_interface": {
			[]string{
				"{\n bridge {\n name = \"virbr0\"\n ports = [\"www\"]\n }\n }",
				`= { bridge = { name = "virbr0", ports = ["www"] } }`,
				`= [{ bridge = { name = "virbr0", ports = ["www"] } }]`,
			},
			[]any{map[string]any{"bridge": map[string]any{"name": "virbr0", "ports": []string{"www"}}}},
			nic(),
		},
	}
	for key, it := range options {
		for _, text := range it.hcl {
			t.Run(key+" "+strings.Fields(text)[0], func(t *testing.T) {
				job := fmt.Sprintf("job \"j\" {\n group \"g\" {\n task \"t\" {\n driver = \"virt\"\n config {\n %s %s\n }\n }\n }\n }", key, text)
				parsed, err := jobspec2.Parse("job.nomad.hcl", strings.NewReader(job))
				must.NoError(t, err, must.Sprint(job))
				value, err := convert(schema, parsed.TaskGroups[0].Tasks[0].Config)
				must.NoError(t, err, must.Sprint(job))
				must.True(t, value.GetAttr(key).RawEquals(it.want), must.Sprintf("%#v", value.GetAttr(key)))
			})
		}
		t.Run(key+" in JSON", func(t *testing.T) {
			value, err := convert(schema, map[string]any{key: it.json})
			must.NoError(t, err)
			must.True(t, value.GetAttr(key).RawEquals(it.want), must.Sprintf("%#v", value.GetAttr(key)))
		})
	}
	t.Run("disks that have different keys", func(t *testing.T) {
		source := map[string]any{"image": "a"}
		value, err := convert(schema, map[string]any{"disk": []any{
			map[string]any{"source": []any{source}, "size": 1024},
			map[string]any{"throttle": []any{map[string]any{"iops": 5}}},
			map[string]any{},
		}})
		must.NoError(t, err)
		sizes := []cty.Value{}
		for _, disk := range value.GetAttr("disk").AsValueSlice() {
			sizes = append(sizes, disk.GetAttr("size"))
		}
		must.True(t, cty.ListVal(sizes).RawEquals(cty.ListVal([]cty.Value{
			cty.StringVal("1024"), cty.NullVal(cty.String), cty.NullVal(cty.String),
		})))
	})
	t.Run("a key of another driver as a block", func(t *testing.T) {
		_, err := convert(schema, map[string]any{"image_path": []any{map[string]any{"a": 1}}})
		must.NoError(t, err)
	})
	t.Run("the matrix has every option", func(t *testing.T) {
		for key := range schema.GetObject().GetAttributes() {
			must.MapContainsKey(t, options, key, must.Sprint("an option without a line in this test"))
		}
	})
}
