package nomadtest

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/shoenig/test/must"
)

// blocksOf are the HCL blocks of a guide that begin with that word.
func blocksOf(t testing.TB, guide, word string) []string {
	t.Helper()
	var found []string
	for _, match := range regexp.MustCompile("(?s)```hcl\n(.*?)```").FindAllStringSubmatch(readText(t, guide), -1) {
		if strings.HasPrefix(match[1], word) {
			found = append(found, match[1])
		}
	}
	must.SliceNotEmpty(t, found)
	return found
}

// makeLinks makes links of the host until the test ends.
func makeLinks(t testing.TB, kinds map[string]string) {
	t.Helper()
	for name, kind := range kinds {
		output, err := exec.Command("ip", "link", "add", name, "up", "type", kind).CombinedOutput()
		must.NoError(t, err, must.Sprint(string(output)))
		t.Cleanup(func() { _ = exec.Command("ip", "link", "delete", name).Run() })
	}
}

// V-108 V-109 V-128: the interfaces and networks of docs/networking.md run as they stand there, one job for each; that of a group is TestV125_BridgeMode's.
func TestV108_JobsOfTheNetworkingGuide(t *testing.T) {
	guide := "../../docs/networking.md"
	makeLinks(t, map[string]string{"br0": "bridge", "storage0": "bridge", "eno1": "bridge"})
	networks := strings.Join(blocksOf(t, guide, "managed_network"), "\n")
	// The guide's fixed IPv6 address is in the prefix of its table of keys.
	networks = strings.Replace(networks, `domain  = "lan.internal"`, "address6 = \"fd12:3456:789a::1/64\"\n  domain  = \"lan.internal\"", 1)
	c := corpusClient(t, `
plugin "nomad-driver-qmp" {
  config {
    data_dir         = "/var/lib/virt"
    run_dir          = "/run/virt"
    image_paths      = ["/var/local/statics/images/"]
    bridges          = ["br0", "storage0"]
    macvtap_devices  = ["eno1"]
    `+networks+`
  }
}`, "", "nomad-driver-qmp")
	for index, block := range blocksOf(t, guide, "network_interface") {
		if strings.Contains(block, "group {") {
			continue
		}
		name := regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(strings.SplitN(block, "}", 2)[0], "-")
		t.Run(strings.Trim(name, "-"), func(t *testing.T) {
			t.Parallel()
			job := c.newJob("guide"+string(rune('a'+index)), jobParts{
				image:  tinyImage(t),
				memory: 160,
				group:  "network {\n port \"http\" {\n to = 80\n }\n }",
				config: block,
			}).run()
			job.becomes("running", time.Minute)
			if strings.Contains(block, `"http"`) {
				page(t, onHost(job.hostPorts()["http"]), time.Minute)
			} else {
				job.says("TINY-READY")
			}
			for _, key := range []string{"ip ", "ip6"} {
				fixed := regexp.MustCompile(`(?m)^ *` + key + ` *= "(.*)"`).FindStringSubmatch(block)
				if fixed != nil {
					must.StrContains(t, job.story()+job.logs("stdout"), fixed[1])
				}
			}
			job.stop()
			job.becomes("complete", time.Minute)
		})
	}
}
