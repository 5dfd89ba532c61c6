package cluster

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// tektonNamespace is where Tekton keeps its configuration.
const tektonNamespace = "tekton-pipelines"

// webhookPort is that of Tekton's webhook on the loopback interface.
const webhookPort = 8443

// tektonConfig are Tekton's files in the order in which they are applied: those
// that guard the others are the last, when the webhook answers.
var tektonConfig = []string{
	"100-namespace/*.yaml", "300-crds/*.yaml", "200-*.yaml", "201-*.yaml", "clusterrole-*.yaml", "config-*.yaml", "webhook.yaml", "500-webhooks.yaml",
}

// installTekton applies Tekton's own configuration and starts its programs, which
// run beside the API server in place of in pods, with the rights of their service
// accounts.
func (c *Cluster) installTekton(ctx context.Context) error {
	for _, pattern := range tektonConfig {
		files, err := filepath.Glob(filepath.Join(c.peers, "config", pattern))
		if err != nil {
			return err
		}
		if len(files) == 0 {
			return fmt.Errorf("tekton's configuration has no %s: %w", pattern, os.ErrNotExist)
		}
		if pattern == "500-webhooks.yaml" {
			if err := c.startWebhook(ctx); err != nil {
				return err
			}
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			objects, err := Decode(data)
			if err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			for _, object := range objects {
				if !adapt(object) {
					continue
				}
				if _, err := c.Apply(ctx, object); err != nil {
					return err
				}
			}
		}
		if strings.HasPrefix(pattern, "300-crds") {
			c.mapper.Reset()
		}
	}
	err := c.run("controller", "controller", []string{
		"--kubeconfig", kubeconfig("controller"), "--disable-ha", "--kube-api-qps", "500", "--kube-api-burst", "1000", "--threads-per-controller", "8",
		"--entrypoint-image", c.tektonImage("entrypoint"), "--nop-image", c.tektonImage("nop"), "--workingdirinit-image", c.tektonImage("workingdirinit"),
		"--shell-image", c.tektonImage("shell"), // of BuilderImage: only steps of builders have scripts
		// Nobody uses these.
		"--sidecarlogresults-image", c.tektonImage("nop"), "--shell-image-win", c.tektonImage("nop"),
	}, tektonEnv("8180", "9180"))
	if err != nil {
		return err
	}
	// The configurations are there at once, the certificate in them is written by
	// the webhook.
	return c.await(ctx, "Tekton's webhook", func(ctx context.Context) error {
		bad := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "tekton.dev/v1", "kind": "Task", "metadata": map[string]any{"name": "probe", "namespace": "default"},
			"spec": map[string]any{"steps": []any{map[string]any{"name": "none", "image": "none", "command": []any{"$(params.none)"}}}},
		}}
		_, err := c.Apply(ctx, bad)
		if err == nil {
			return errors.New("it admits a task that uses a parameter that it has not")
		}
		if strings.Contains(err.Error(), "non-existent variable") {
			return nil
		}
		return err
	})
}

func (c *Cluster) startWebhook(ctx context.Context) error {
	env := append(tektonEnv("8181", "9181"), fmt.Sprintf("WEBHOOK_PORT=%d", webhookPort), "WEBHOOK_SERVICE_NAME=tekton-pipelines-webhook",
		"WEBHOOK_SECRET_NAME=webhook-certs", "WEBHOOK_ADMISSION_CONTROLLER_NAME=webhook.pipeline.tekton.dev", "CONFIG_LEADERELECTION_NAME=config-leader-election-webhook",
		"KUBECONFIG="+kubeconfig("webhook"))
	// The Secret for its certificate is in 500-webhooks.yaml, with what it guards.
	secret := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": "webhook-certs", "namespace": tektonNamespace},
	}}
	if _, err := c.Apply(ctx, secret); err != nil {
		return err
	}
	if err := c.run("webhook", "webhook", nil, env); err != nil {
		return err
	}
	return c.await(ctx, "Tekton's webhook", func(ctx context.Context) error {
		dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}
		conn, err := dialer.DialContext(ctx, "tcp4", fmt.Sprintf("127.0.0.1:%d", webhookPort))
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

// tektonEnv is what Tekton's deployments set.
func tektonEnv(probes, metrics string) []string {
	return []string{
		"SYSTEM_NAMESPACE=" + tektonNamespace, "KUBERNETES_MIN_VERSION=v1.28.0", "PROBES_PORT=" + probes, "METRICS_PROMETHEUS_PORT=" + metrics,
		"PROFILING_PORT=" + strings.Replace(probes, "81", "82", 1), "METRICS_DOMAIN=tekton.dev/pipeline",
		"CONFIG_DEFAULTS_NAME=config-defaults", "CONFIG_LOGGING_NAME=config-logging", "CONFIG_OBSERVABILITY_NAME=config-observability",
		"CONFIG_FEATURE_FLAGS_NAME=feature-flags", "CONFIG_LEADERELECTION_NAME=config-leader-election-controller", "CONFIG_SPIRE=config-spire",
	}
}

// adapt changes an object of Tekton for this cluster, where the webhook is no pod, and
// says whether it is needed.
func adapt(object *unstructured.Unstructured) bool {
	switch object.GetKind() {
	case "Deployment", "HorizontalPodAutoscaler":
		return false
	case "ConfigMap":
		if object.GetName() == "feature-flags" {
			// Nothing injects sidecars here, so that steps need not wait for them.
			_ = unstructured.SetNestedField(object.Object, "false", "data", "running-in-environment-with-injected-sidecars")
		}
	case "Service":
		object.Object["spec"] = map[string]any{"type": "ExternalName", "externalName": "localhost"}
	case "CustomResourceDefinition":
		service, ok, _ := unstructured.NestedMap(object.Object, "spec", "conversion", "webhook", "clientConfig", "service")
		if ok {
			service["port"] = int64(webhookPort)
			_ = unstructured.SetNestedMap(object.Object, service, "spec", "conversion", "webhook", "clientConfig", "service")
		}
	case "ValidatingWebhookConfiguration", "MutatingWebhookConfiguration":
		hooks, _, _ := unstructured.NestedSlice(object.Object, "webhooks")
		for _, hook := range hooks {
			_ = unstructured.SetNestedField(hook.(map[string]any), int64(webhookPort), "clientConfig", "service", "port")
		}
		object.Object["webhooks"] = hooks
	}
	return true
}

// awaitNode waits until pods run on the node, and have their service account.
func (c *Cluster) awaitNode(ctx context.Context) error {
	return c.await(ctx, "the node", func(ctx context.Context) error {
		node, err := c.Kubernetes.CoreV1().Nodes().Get(ctx, nodeName, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, condition := range node.Status.Conditions {
			if condition.Type == corev1.NodeReady && condition.Status != corev1.ConditionTrue {
				return errors.New(condition.Message)
			}
		}
		if len(node.Spec.Taints) > 0 {
			return fmt.Errorf("node has taints %v", node.Spec.Taints)
		}
		_, err = c.Kubernetes.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}

// Decode reads the documents of a YAML file.
func Decode(data []byte) ([]*unstructured.Unstructured, error) {
	var out []*unstructured.Unstructured
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096)
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(object)
		if errors.Is(err, io.EOF) {
			return out, nil
		} else if err != nil {
			return nil, err
		}
		if len(object.Object) > 0 {
			out = append(out, object)
		}
	}
}

// Apply sends an object as kubectl apply --server-side does, and gives what
// became of it. Without a name, but with metadata.generateName, it is created.
func (c *Cluster) Apply(ctx context.Context, object *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	gvk := object.GroupVersionKind()
	mapping, err := c.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if meta.IsNoMatchError(err) { // a definition of now
		c.mapper.Reset()
		mapping, err = c.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", gvk.Kind, object.GetName(), err)
	}
	resources := c.Dynamic.Resource(mapping.Resource)
	target := resources.Namespace(object.GetNamespace())
	if mapping.Scope.Name() == meta.RESTScopeNameRoot {
		target = resources.Namespace("")
	}
	if object.GetName() == "" {
		made, err := target.Create(ctx, object, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict})
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", gvk.Kind, object.GetGenerateName(), err)
		}
		return made, nil
	}
	data, err := object.MarshalJSON()
	if err != nil {
		return nil, err
	}
	force := true
	made, err := target.Patch(ctx, object.GetName(), types.ApplyPatchType, data, metav1.PatchOptions{FieldManager: "e2e", Force: &force, FieldValidation: metav1.FieldValidationStrict})
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", gvk.Kind, object.GetName(), err)
	}
	return made, nil
}
