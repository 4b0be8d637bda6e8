plugins {
    kotlin("jvm") version "2.2.20"
    application
}

repositories { mavenCentral() }

dependencies {
    implementation("com.microsoft.onnxruntime:onnxruntime:1.22.0")
    implementation("org.json:json:20250517")
}

kotlin { jvmToolchain(17) }
sourceSets { main { kotlin.srcDir(".") } }
application { mainClass = "ClassifyKt" }
