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
	options := map[string]form{
		"image":                           word("local/disk.raw"),
		"primary_disk_size":               number("10000", 10000),
		"use_thin_copy":                   {[]string{"= true", `= "true"`}, true, cty.True},
		"hostname":                        word("web-1"),
		"user_data":                       word("local/user-data.yml"),
		"default_user_authorized_ssh_key": word("ssh-ed25519 AAAA me@example"),
		"default_user_password":           word("change me: now"),
		"cmds":                            words("touch /started"),
		"timezone":                        word("Europe/Berlin"),
		"accelerator":                     word("tcg"),
		"vcpus":                           number("2", 2),
		"firmware":                        word("uefi"),
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
		"network_interface": {
			[]string{
				"{\n bridge {\n name = \"virbr0\"\n ports = [\"www\"]\n }\n }",
				`= { bridge = { name = "virbr0", ports = ["www"] } }`,
				`= [{ bridge = { name = "virbr0", ports = ["www"] } }]`,
			},
			[]any{map[string]any{"bridge": map[string]any{"name": "virbr0", "ports": []string{"www"}}}},
			cty.ListVal([]cty.Value{cty.ObjectVal(map[string]cty.Value{"bridge": bridge})}),
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
	t.Run("the matrix has every option", func(t *testing.T) {
		for key := range schema.GetObject().GetAttributes() {
			must.MapContainsKey(t, options, key, must.Sprint("an option without a line in this test"))
		}
	})
}
