rootProject.name = "classify"
