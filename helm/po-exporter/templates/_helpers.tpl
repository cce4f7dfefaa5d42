{{- define "po-exporter.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{- define "po-exporter.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains (include "po-exporter.name" .) .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "po-exporter.name" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "po-exporter.selectorLabels" -}}
app.kubernetes.io/name: {{ include "po-exporter.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "po-exporter.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "po-exporter.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "po-exporter.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "po-exporter.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{- define "po-exporter.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}{{ .repository }}@{{ .digest }}{{- else -}}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{- end -}}
{{- end -}}
{{- end }}

{{- define "po-exporter.scheme" -}}
{{- if dig "server" "tls" "cert_file" "" .Values.config -}}HTTPS{{- else -}}HTTP{{- end -}}
{{- end }}

{{/* Whatever no schema can say: each is one sentence. */}}
{{- define "po-exporter.validate" -}}
{{- if not .Values.databases -}}
{{- fail "databases: name at least one database to watch, such as databases.trading.host." -}}
{{- end -}}
{{- range $name, $database := .Values.databases -}}
{{- $place := printf "databases.%s" $name -}}
{{- if not (or $database.host $database.dsnKey) -}}
{{- fail (printf "%s: set host, or dsnKey with the key of existingSecret that holds the whole DSN." $place) -}}
{{- end -}}
{{- if and $database.host $database.dsnKey -}}
{{- fail (printf "%s: host and dsnKey contradict each other; keep one of the two." $place) -}}
{{- end -}}
{{- if not (or $database.existingSecret $database.noPassword) -}}
{{- fail (printf "%s.existingSecret: name the Secret that holds the password (key %s), or set noPassword where none is needed." $place ($database.passwordKey | default "password")) -}}
{{- end -}}
{{- range $key := list "dsnKey" "directDsnKey" "feedDsnKey" "fixDsnKey" -}}
{{- if and (get $database $key) (not $database.existingSecret) -}}
{{- fail (printf "%s.%s: existingSecret has to name the Secret that has this key." $place $key) -}}
{{- end -}}
{{- end -}}
{{- with $database.ca -}}
{{- if not (or .secret .configMap) -}}
{{- fail (printf "%s.ca: name the secret or the configMap that has the certificate." $place) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if hasKey .Values.config "databases" -}}
{{- fail "config.databases: databases have a section of their own in the values; see databases." -}}
{{- end -}}
{{- if dig "server" "listen" "" .Values.config -}}
{{- fail "config.server.listen: set port; the Service and the probes follow it." -}}
{{- end -}}
{{- if and (gt (int .Values.replicas) 1) (eq (toString (dig "leader" "auto" .Values.config)) "off" "false") -}}
{{- fail (printf "replicas: %d replicas need the leader lock; set config.leader to auto, or replicas to 1." (int .Values.replicas)) -}}
{{- end -}}
{{- end }}

{{/* The configuration file. Passwords are named by file, never written here. */}}
{{- define "po-exporter.config" -}}
{{- $databases := dict -}}
{{- range $name, $given := .Values.databases -}}
{{- $files := printf "/run/secrets/po-exporter/%s" $name -}}
{{- $database := dict -}}
{{- if $given.dsnKey -}}
{{- $_ := set $database "dsn_file" (printf "%s/%s" $files $given.dsnKey) -}}
{{- else -}}
{{- $mode := $given.sslmode | default "verify-full" -}}
{{- $dsn := printf "postgresql://%s@%s:%d/%s?sslmode=%s" ($given.user | default "po_reader" | urlquery) $given.host (int ($given.port | default 5432)) ($given.database | default $name | urlquery) $mode -}}
{{- if $given.ca -}}
{{- $dsn = printf "%s&sslrootcert=%s/%s" $dsn $files "ca.crt" -}}
{{- else if hasPrefix "verify" $mode -}}
{{- $dsn = printf "%s&sslrootcert=/etc/ssl/certs/ca-certificates.crt" $dsn -}}
{{- end -}}
{{- $_ := set $database "dsn" $dsn -}}
{{- if $given.existingSecret -}}
{{- $_ := set $database "password_file" (printf "%s/%s" $files ($given.passwordKey | default "password")) -}}
{{- end -}}
{{- end -}}
{{- range $key, $setting := dict "directDsnKey" "direct_dsn_file" "feedDsnKey" "feed_dsn_file" "fixDsnKey" "fix_dsn_file" -}}
{{- with get $given $key -}}
{{- $_ := set $database $setting (printf "%s/%s" $files .) -}}
{{- end -}}
{{- end -}}
{{- range $key := list "schema" "environment" -}}
{{- with get $given $key -}}
{{- $_ := set $database $key . -}}
{{- end -}}
{{- end -}}
{{- $_ := set $databases $name $database -}}
{{- end -}}
{{- $server := dict "listen" (printf "0.0.0.0:%d" (int .Values.port)) -}}
{{- if .Values.tokens.existingSecret -}}
{{- $_ := set $server "tokens_file" "/run/secrets/po-exporter/tokens" -}}
{{- end -}}
{{- $config := dict "databases" $databases "server" $server -}}
{{- if .Values.checksConfigMap -}}
{{- $_ := set $config "checks" (dict "directory" "/etc/po-exporter/checks") -}}
{{- end -}}
{{- toYaml (mergeOverwrite (deepCopy .Values.config) $config) -}}
{{- end }}

{{/* The same metric_relabel_configs as alerts/prometheus.yaml, in the operator's words. */}}
{{- define "po-exporter.metricRelabelings" -}}
- {sourceLabels: [__name__, instance], regex: "position_order_(?:up|exporter_.*);(.*)", targetLabel: __tmp_instance}
- {sourceLabels: [__name__, pod], regex: "position_order_(?:up|exporter_.*);(.*)", targetLabel: __tmp_pod}
- {sourceLabels: [__name__], regex: "position_order_.*", targetLabel: instance, replacement: ""}
- {sourceLabels: [__name__], regex: "position_order_.*", targetLabel: pod, replacement: ""}
- {sourceLabels: [__tmp_instance], regex: "(.+)", targetLabel: instance}
- {sourceLabels: [__tmp_pod], regex: "(.+)", targetLabel: pod}
- {regex: "__tmp_(?:instance|pod)", action: labeldrop}
{{- end }}

{{- define "po-exporter.endpoint" -}}
port: metrics
path: /metrics
scheme: {{ include "po-exporter.scheme" .root | lower }}
interval: {{ .monitor.interval }}
scrapeTimeout: {{ .monitor.scrapeTimeout }}
{{- with .monitor.authorization }}
authorization: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .monitor.tlsConfig }}
tlsConfig: {{- toYaml . | nindent 2 }}
{{- end }}
metricRelabelings:
  {{- include "po-exporter.metricRelabelings" .root | nindent 2 }}
  {{- with .monitor.metricRelabelings }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
