{{- define "thalweg.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "thalweg.rayImage" -}}
{{ .Values.ray.image.repository }}:{{ .Values.ray.image.tag | default (printf "%s-ray" .Chart.AppVersion) }}
{{- end }}

{{- define "thalweg.labels" -}}
app.kubernetes.io/name: thalweg
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* What a pod may do: nothing that it does not need. */ -}}
{{- define "thalweg.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsUser: 1000
  runAsGroup: 1000
  runAsNonRoot: true
  fsGroup: 1000
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "thalweg.container" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- /* `thalweg serve`, as a container; `ray` says whether its conversations are on the hosts of a Ray cluster. */ -}}
{{- define "thalweg.serve" -}}
ports:
  - {name: https, containerPort: 8443}
env: # tokens come from a secret, which may change while the pod runs, and stand in no command line
  - {name: THALWEG_TOKEN_FILE, value: /etc/tokens/token}
  - {name: THALWEG_ADMIN_TOKEN_FILE, value: /etc/tokens/admin-token}
  - {name: THALWEG_ICE_FILE, value: /etc/tokens/ice}
readinessProbe:
  httpGet: {path: /readyz, port: https, scheme: HTTPS}
  timeoutSeconds: 5
livenessProbe:
  httpGet: {path: /healthz, port: https, scheme: HTTPS}
  initialDelaySeconds: 120
  periodSeconds: 15
  timeoutSeconds: 5
{{- end }}

{{- define "thalweg.serveArguments" -}}
- /etc/thalweg/pipeline.yaml
- --host=0.0.0.0
- --port=8443
- --certificate=/etc/tls/tls.crt
- --key=/etc/tls/tls.key
{{- if .Values.serve.hostName }}
- --host-name={{ .Values.serve.hostName }}
{{- end }}
{{- range .Values.serve.arguments }}
- {{ . | quote }}
{{- end }}
{{- end }}

{{- define "thalweg.serveMounts" -}}
- {name: pipeline, mountPath: /etc/thalweg, readOnly: true}
- {name: tls, mountPath: /etc/tls, readOnly: true}
- {name: tokens, mountPath: /etc/tokens, readOnly: true}
{{- end }}

{{- define "thalweg.serveVolumes" -}}
- {name: pipeline, configMap: {name: {{ .Values.serve.pipeline }}}}
- {name: tls, secret: {secretName: {{ .Values.serve.tls }}, defaultMode: 0440}}
- {name: tokens, secret: {secretName: {{ .Values.serve.tokens }}, defaultMode: 0440}}
{{- end }}

{{- /* A node of the Ray cluster: KubeRay gives it its command. */ -}}
{{- define "thalweg.ray" -}}
image: {{ include "thalweg.rayImage" . }}
imagePullPolicy: {{ .Values.ray.image.pullPolicy }}
env:
  - {name: RAY_USAGE_STATS_ENABLED, value: "0"}
  - {name: RAY_gcs_rpc_server_reconnect_timeout_s, value: "86400"} # conversations outlive the head by a day, not a minute
  - {name: RAY_worker_niceness, value: "0"} # Ray's workers have 15 otherwise, and give way to everything
{{ include "thalweg.container" . }}
{{- end }}
