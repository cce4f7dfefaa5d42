{{/* What the Deployment's container and the sidecar share. */}}
{{- define "po-exporter.container" -}}
name: po-exporter
image: {{ include "po-exporter.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args: [run, --config, /etc/po-exporter/config/config.yaml]
{{- with .Values.extraEnv }}
env: {{- toYaml . | nindent 2 }}
{{- end }}
ports:
  - {name: metrics, containerPort: {{ .Values.port }}, protocol: TCP}
livenessProbe:
  httpGet: {path: /-/healthy, port: metrics, scheme: {{ include "po-exporter.scheme" . }}}
  periodSeconds: 15
  timeoutSeconds: 5
  failureThreshold: 4
resources: {{- toYaml .Values.resources | nindent 2 }}
securityContext: {{- toYaml .Values.securityContext | nindent 2 }}
volumeMounts:
  # Whole directories: a file that is mounted alone does not change with its ConfigMap.
  - {name: po-exporter-config, mountPath: /etc/po-exporter/config, readOnly: true}
  - {name: po-exporter-secrets, mountPath: /run/secrets/po-exporter, readOnly: true}
  {{- if .Values.checksConfigMap }}
  - {name: po-exporter-checks, mountPath: /etc/po-exporter/checks, readOnly: true}
  {{- end }}
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/*
The container as a native sidecar, for `initContainers` of a chart that has this one as a dependency:

  initContainers:
    {{- include "po-exporter.sidecar" (index .Subcharts "po-exporter") | nindent 8 }}
  volumes:
    {{- include "po-exporter.volumes" (index .Subcharts "po-exporter") | nindent 8 }}

It has no readiness probe, which would take the trading API's pod out of service, and no startup probe, which would hold
its start up.
*/}}
{{- define "po-exporter.sidecar" -}}
{{- include "po-exporter.validate" . -}}
- {{- include "po-exporter.container" . | nindent 2 }}
  restartPolicy: Always
{{- end }}

{{/* The volumes that the container needs. */}}
{{- define "po-exporter.volumes" -}}
- name: po-exporter-config
  configMap: {name: {{ include "po-exporter.fullname" . }}}
- name: po-exporter-secrets
  projected:
    # A Deployment's pod has its own group; somebody else's pod need not, and mounts these in this container alone.
    defaultMode: {{ ternary 0444 0440 (eq .Values.mode "sidecar") }}
    sources: {{- include "po-exporter.secretSources" . | nindent 6 }}
{{- if .Values.checksConfigMap }}
- name: po-exporter-checks
  configMap: {name: {{ .Values.checksConfigMap }}}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "po-exporter.secretSources" -}}
{{- $sources := list -}}
{{- range $name, $database := .Values.databases -}}
{{- if $database.existingSecret -}}
{{- $items := list -}}
{{- range $key := compact (list (ternary "" ($database.passwordKey | default "password") (not (empty $database.dsnKey))) $database.dsnKey $database.directDsnKey $database.feedDsnKey $database.fixDsnKey) -}}
{{- $items = append $items (dict "key" $key "path" (printf "%s/%s" $name $key)) -}}
{{- end -}}
{{- $sources = append $sources (dict "secret" (dict "name" $database.existingSecret "items" $items)) -}}
{{- end -}}
{{- with $database.ca -}}
{{- $item := list (dict "key" (.key | default "ca.crt") "path" (printf "%s/ca.crt" $name)) -}}
{{- if .secret -}}
{{- $sources = append $sources (dict "secret" (dict "name" .secret "items" $item)) -}}
{{- else -}}
{{- $sources = append $sources (dict "configMap" (dict "name" .configMap "items" $item)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with .Values.tokens -}}
{{- if .existingSecret -}}
{{- $sources = append $sources (dict "secret" (dict "name" .existingSecret "items" (list (dict "key" .key "path" "tokens")))) -}}
{{- end -}}
{{- end -}}
{{- range .Values.secretFiles -}}
{{- $sources = append $sources (dict "secret" (dict "name" .existingSecret "items" (list (dict "key" .key "path" .path)))) -}}
{{- end -}}
{{- toYaml $sources -}}
{{- end }}
